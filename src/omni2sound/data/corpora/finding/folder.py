"""Media files below a folder, and what the names of their folders say.

In:   a folder.
Out:  `MediaFile`s by name and by YouTube id.

Linked folders are followed, each real folder once, so a link to a folder above ends in no circle;
a folder's own path is preferred to that of a link.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from omni2sound.data.corpora.finding.names import Times, youtube_names
from omni2sound.errors import UserError
from omni2sound.readers import real_path

SUFFIXES = (
    # Of one name in one folder the first is taken: uncompressed before lossless before lossy.
    *(".wav", ".w64", ".aif", ".aiff", ".au", ".caf", ".flac", ".wv", ".ape", ".opus", ".ogg"),
    *(".oga", ".m4a", ".aac", ".mp3", ".mp2", ".wma", ".mka", ".weba"),
    *(".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".3gp", ".flv", ".ts", ".mpg", ".mpeg"),
    *(".wmv", ".ogv"),
)

# Words in names of folders, letters and digits alone, by the corpus whose files lie in them.
_FOLDERS = {
    "audiosetsl": "wavcaps",
    "freesound": "wavcaps",
    "bbcsound": "wavcaps",
    "soundbible": "wavcaps",
    "wavcaps": "wavcaps",
    "audiocaps": "audiocaps",
    "audioset": "audioset",
    "clotho": "clotho",
    "fsd50k": "fsd50k",
    "fmasmall": "fma",
    "fmamedium": "fma",
    "fmalarge": "fma",
    "fmafull": "fma",
    "fmametadata": "fma",
    "millionsong": "msd",
    "7digital": "msd",
    "vggsound": "vggsound",
    # Corpora that have no importer, but files with numbers or words for names.
    **dict.fromkeys(("esc50", "urbansound", "musiccaps", "sounddescs", "jamendo"), "other"),
}
_WHOLE_NAMES = {"fma": "fma", "msd": "msd", "bbc": "wavcaps", "macs": "other"}


CORPORA = frozenset(_FOLDERS.values()) | frozenset(_WHOLE_NAMES.values())
"""Corpora whose folders are known."""


def corpus_of_folder(name: str) -> str | None:
    """Return the corpus that a folder's name tells of; None if it tells of none."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if plain in _WHOLE_NAMES:
        return _WHOLE_NAMES[plain]
    return next((corpus for word, corpus in _FOLDERS.items() if word in plain), None)


def words_of(name: str) -> frozenset[str]:
    """Split a folder's name to its words: "FSD50K.dev_audio" is fsd50k, dev, audio."""
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))


def loose_name(stem: str) -> str:
    """Reduce a name to what survives archives and file systems.

    Windows refuses some characters, macOS writes accents as characters of their own, and tables
    may have entities of HTML.
    """
    text = unicodedata.normalize("NFC", html.unescape(stem))
    return re.sub(r"""[\s_<>:;"'`´’/\\|?*]+""", "_", text).strip("_.").casefold()


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One media file."""

    path: PurePosixPath
    """Relative to the media folder."""
    folders: tuple[str, ...]
    """Names of the folders that it lies in, the media folder's own first."""
    times: Times | None = None
    """Times in a name with a YouTube id."""

    @property
    def corpus(self) -> str | None:
        """Corpus that the nearest folder with such a name tells of."""
        found = (corpus_of_folder(name) for name in reversed(self.folders))
        return next((c for c in found if c is not None), None)

    @property
    def corpus_below(self) -> str | None:
        """As `corpus`, but for the media folder's own name, which a user chose."""
        found = (corpus_of_folder(name) for name in reversed(self.folders[1:]))
        return next((c for c in found if c is not None), None)

    @property
    def folder_words(self) -> frozenset[str]:
        """Words in the names of the folders below the media folder."""
        return frozenset().union(*map(words_of, self.folders[1:]))


class MediaFolder:
    """Sound and video files below a folder, by name."""

    def __init__(self, root: Path) -> None:
        """List the folder once.

        Raises:
            UserError: If it does not exist.
        """
        if not root.is_dir():
            raise UserError(f"{root}: no such folder of media")
        self.root = root
        self.files = tuple(self._list())
        self._by_stem: dict[str, list[MediaFile]] = {}
        for file in self.files:
            self._by_stem.setdefault(file.path.stem, []).append(file)

    def _list(self) -> list[MediaFile]:
        found: list[MediaFile] = []
        seen: set[tuple[int, int]] = set()
        own_name = real_path(self.root).name
        waiting: list[Path] = [self.root]
        links: list[Path] = []
        while waiting or links:
            folder = waiting.pop() if waiting else links.pop(0)
            try:
                status = folder.stat()
                entries = sorted(os.scandir(folder), key=lambda e: e.name)
            except OSError:
                continue  # a link to nothing, or a folder that may not be read
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in entries:
                if entry.is_dir():
                    if not entry.name.startswith(".") and entry.name != "__MACOSX":
                        (links if entry.is_symlink() else waiting).append(Path(entry.path))
                elif _is_media(entry.name) and entry.is_file():
                    path = PurePosixPath(Path(entry.path).relative_to(self.root).as_posix())
                    found.append(MediaFile(path=path, folders=(own_name, *path.parts[:-1])))
        return sorted(found, key=lambda f: f.path)

    @cached_property
    def _by_loose_name(self) -> dict[str, list[MediaFile]]:
        found: dict[str, list[MediaFile]] = {}
        for file in self.files:
            found.setdefault(loose_name(file.path.stem), []).append(file)
        return found

    @cached_property
    def _by_youtube_id(self) -> dict[str, list[MediaFile]]:
        found: dict[str, list[MediaFile]] = {}
        for file in self.files:
            for video, times in youtube_names(file.path.stem):
                named = MediaFile(path=file.path, folders=file.folders, times=times)
                found.setdefault(video, []).append(named)
        return found

    @cached_property
    def _corpora_below(self) -> frozenset[str]:
        folders = {name for file in self.files for name in file.folders[1:]}
        return frozenset(c for n in folders if (c := corpus_of_folder(n)) is not None)

    def names_a_corpus(self, corpus: str) -> bool:
        """Whether a folder in it has a corpus's name, or it has another's: it may hold several."""
        own = corpus_of_folder(real_path(self.root).name)
        return bool(self._corpora_below) or own not in (None, corpus)

    def named(self, stem: str) -> list[MediaFile]:
        """List the files of a name without suffix, below a folder if there is one in front."""
        folder, _, name = stem.rpartition("/")
        files = self._by_stem.get(name, [])
        return [f for f in files if not folder or _is_below(f, folder)]

    def named_loosely(self, stem: str) -> list[MediaFile]:
        """List the files whose name is this but for what archives and file systems change."""
        return self._by_loose_name.get(loose_name(stem), [])

    def of_video(self, youtube_id: str) -> list[MediaFile]:
        """List the files named by a YouTube id, with the times in their names."""
        return self._by_youtube_id.get(youtube_id, [])


def _is_media(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _is_below(file: MediaFile, folder: str) -> bool:
    return any(part.lower().startswith(folder.lower()) for part in file.folders)
