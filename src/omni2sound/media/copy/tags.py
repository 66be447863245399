"""Tags of a copied video: which are copied, and in which form mp4 and mov hold them.

In:   the tags of the source, tags to add.
Out:  tags for the new container, those that only a QuickTime key can hold.

mp4 and mov have fields for a dozen tags. Others need keys, which live in two places: ComfyUI,
like FFmpeg, writes all tags as keys under `moov/udta/meta`; QuickTime reads keys under
`moov/meta` only (GPS position, Live Photos).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

import av

from omni2sound.media.copy.languages import BIBLIOGRAPHIC, QUICKTIME, language_code
from omni2sound.media.files import TAGS, open_input
from omni2sound.readers import loads

OWN_TAG = "omni2sound"
"""Holds the facts about a generated sound where the video has a `comment` of its own."""
_QUICKTIME_PREFIXES = ("com.apple.", "com.android.")
# Describe the old container or its encoder, not the film; a copy would be wrong in the new one.
_DROPPED = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|duration|"
    r"bps|number_of_frames|number_of_bytes|_statistics_.*|source_id|vendor_id|"
    r"(file_|material_)package_.*|operational_pattern_ul|(generation_|product_)?uid|"
    r"company_name|product_(name|version(_num)?)|toolkit_version_num|application_platform|"
    r"modification_date|service_(name|provider)|metadatacreator|hasvideo|hasaudio|hasmetadata|"
    r"haskeyframes|canseektoend|datasize|videosize|audiosize|lasttimestamp|lastkeyframe.*|"
    r"wm/(encoding.*|is_?vbr)|wmf.*|isvbr|devicecon.*",
    re.IGNORECASE,
)


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that describe the film rather than its container."""
    kept = {
        key: value
        for key, value in tags.items()
        if not _DROPPED.fullmatch(re.sub(r"-[a-z]{3}$", "", key))
    }
    # FFmpeg gives tags with a language twice, "title" and "title-eng".
    return {
        key: value
        for key, value in kept.items()
        if not (re.search(r"-[a-z]{3}$", key) and kept.get(key[:-4]) == value)
    }


def track_tags(tags: Mapping[str, str], container_format: str) -> dict[str, str]:
    """Return a track's tags as the container holds them: mp4 and mov show titles as handlers."""
    kept = {key: value for key, value in kept_tags(tags).items() if key.lower() != "name"}
    if title := track_title(tags):
        kept = {key: value for key, value in kept.items() if key.lower() != "title"}
        kept["title"] = title
    found = {key.lower(): value for key, value in kept.items()}
    if container_format in ("mp4", "mov") and found.get("title"):
        kept["handler_name"] = found["title"]
    if language := found.get("language"):
        kept["language"] = language_tag(language, container_format)
    return kept


def track_title(tags: Mapping[str, str]) -> str:
    """Return a track's title, which FFmpeg reads from mp4 and mov as its name; empty if none."""
    found = {key.lower(): value for key, value in tags.items()}
    return found.get("title") or found.get("name") or ""


def language_tag(language: str, container_format: str) -> str:
    """Return a language as the container writes it."""
    code = language_code(language)[0] or language
    if container_format == "mov":
        return QUICKTIME.get(code, code)
    if container_format == "mp4" and len(language) != 3:  # room for three letters
        return code
    is_of_quicktime = language not in BIBLIOGRAPHIC.values() and language == QUICKTIME.get(code)
    return code if is_of_quicktime else language


def facts_tag(video: str | os.PathLike[str]) -> str:
    """Choose the tag for facts about a generated sound: `comment`, or `OWN_TAG` if it is taken.

    A comment with facts about an earlier generated sound does not count as taken.

    Raises:
        MediaError: The video can't be read.
    """
    with open_input(Path(video)) as source:
        tags = {key.lower(): value for key, value in source.metadata.items()}
    comment = tags.get("comment", "")
    return "comment" if not comment.strip() or _is_own(comment) else OWN_TAG


def without_own(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave out facts about a generated sound that the copy no longer holds."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in ("comment", OWN_TAG) or not _is_own(value)
    }


def only_as_keys(tags: Mapping[str, str], container_format: str) -> tuple[set[str], set[str]]:
    """Find the tags for which mp4 or mov have no field.

    Returns:
        Those for `moov/udta/meta` (all tags are then written there), those for `moov/meta`.
    """
    if container_format not in ("mp4", "mov") or not tags:
        return set(), set()
    file = io.BytesIO()
    options = {"movflags": "frag_custom+empty_moov"}
    with av.open(file, "w", format=container_format, container_options=options, **TAGS) as trial:
        trial.add_mux_stream("mpeg4", rate=25, width=16, height=16)
        trial.metadata.update(tags)
        trial.start_encoding()
    file.seek(0)
    with av.open(file, **TAGS) as written:
        found = {key.lower() for key in written.metadata}
    missing = {key for key in tags if key.lower() not in found}
    # One place for all of them: FFmpeg takes the first list of keys for those of the second, too.
    prefixes = _QUICKTIME_PREFIXES if missing != {OWN_TAG} else (OWN_TAG,)
    if any(key.lower().startswith(prefixes) for key in missing):
        return set(), missing
    return missing, set()


def _is_own(comment: str) -> bool:
    try:
        facts = loads(comment)
    except ValueError:
        return False
    return isinstance(facts, dict) and str(facts.get("software", "")).startswith("omni2sound")
