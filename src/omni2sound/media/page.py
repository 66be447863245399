"""A web page in a single file: styles, script, sounds and pictures inside it.

In:   the body as HTML, files with the style sheet and the script.
Out:  the page as text.

What not to get wrong: the content security policy forbids every request, and every script but the
page's own (by its digest), so opening a page that was sent around reports nothing to anyone.
"""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path


def data_uri(media_type: str, data: bytes) -> str:
    """Encode bytes as an address that needs no request."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def policy_of(script: str = "") -> str:
    """Return the content security policy of a page with this script, or with none."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}'; " if script else ""
    return (
        f"default-src 'none'; {scripts}style-src 'unsafe-inline'; media-src data:; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def html_page(title: str, body: str, *, style: Path, script: Path | None = None) -> str:
    """Compose a page.

    Args:
        title: Plain text.
        body: HTML; the caller escapes what others wrote.
        style: CSS file.
        script: JavaScript file, run after the body. Default: no script.
    """
    code = "" if script is None else script.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy_of(code)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{style.read_text(encoding='utf-8')}</style></head>"
        f"<body>{body}{f'<script>{code}</script>' if code else ''}</body></html>\n"
    )
