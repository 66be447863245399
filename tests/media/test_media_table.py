"""The page that says what a copy keeps is what copies keep."""

from __future__ import annotations

import pytest

from tests.media.media_table import PAGE, page


@pytest.mark.slow
def test_the_page_is_what_copies_do() -> None:
    found = page()
    assert "**" not in found
    assert PAGE.read_text(encoding="utf-8") == found, "run python -m tests.media.media_table"
