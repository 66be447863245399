"""The media of a draft: found, missing, or not sure.

In:   a draft, the name of its corpus, a `MediaFolder`.
Out:  `Found`, `Unsure` or None.

What not to get wrong: numbers name files in AudioCaps, FSD50K, FMA and WavCaps alike. A number, or
a name in words, counts in the corpus's own folders, and elsewhere only if no folder is another
corpus's. What is not sure is reported and left out: a wrong caption teaches a wrong sound.
"""

from __future__ import annotations

import filecmp
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from omni2sound.data.corpora.finding.contents import Contents, look_into
from omni2sound.data.corpora.finding.cut import Cut, cut_of
from omni2sound.data.corpora.finding.folder import CORPORA, SUFFIXES, MediaFile, MediaFolder
from omni2sound.data.corpora.rows import Draft


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Files of a clip, and where it lies in them."""

    audio: str | None
    """None: the video's own sound."""
    video: str | None
    cut: Cut

    @property
    def sound_file(self) -> str:
        """File with the clip's sound."""
        path = self.audio or self.video
        assert path is not None  # one of them is given
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsure:
    """A clip whose file can't be told, or can't be used."""

    clip_id: str
    files: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Group:
    """Files of equally good names."""

    files: list[MediaFile]
    is_clip: bool
    """Whether the name says that the file holds the clip alone."""
    is_own: bool = True
    """Whether name or folder is the corpus's own; others may have such names too."""


def find_media(
    draft: Draft, corpus: str, folder: MediaFolder, *, exact_stems: Collection[str] = ()
) -> Found | Unsure | None:
    """Find the files of a draft.

    Args:
        draft: The clip.
        corpus: Name of its importer.
        folder: Where to look.
        exact_stems: Names that the corpus's tables hold; a file of such a name is no other's.
    """
    if draft.audio is not None or draft.video is not None:
        return _given(draft, folder)
    for group in _groups(draft, corpus, folder, exact_stems):
        if group.files:
            return _choose(draft, corpus, folder, group)
    return None


def _given(draft: Draft, folder: MediaFolder) -> Found | None:
    audio, video = (
        p if p is not None and (folder.root / p).is_file() else None
        for p in (draft.audio, draft.video)
    )
    if audio is None and video is None:
        return None
    return Found(audio=audio, video=video, cut=Cut(draft.start_s, draft.duration_s, False))


def _groups(
    draft: Draft, corpus: str, folder: MediaFolder, exact_stems: Collection[str]
) -> Sequence[_Group]:
    groups = []
    if draft.youtube_id:
        start_s = draft.source_start_s
        end_s = None if start_s is None else start_s + (draft.duration_s or 0.0)
        named = [f for f in folder.of_video(draft.youtube_id) if f.times is not None]
        segments = [f for f in named if f.times and f.times.start is not None]
        if start_s is not None:
            fitting = [f for f in segments if f.times and f.times.fit(start_s, end_s)]
            groups.append(_Group(fitting, is_clip=True))
        bare = [f for f in named if f.times and f.times.start is None]
        cut = [f for f in bare if f.times and f.times.is_cut_name]
        groups += [_Group([f for f in bare if f not in cut], is_clip=False)]
        groups += [_Group(cut, is_clip=False)]
    for stem in draft.stems:
        files = [f for f in folder.named(stem) if _may_be(f, draft)]
        own = [f for f in files if not _is_common(stem, draft) or _is_own(f, corpus, draft)]
        groups.append(_Group(own, is_clip=True))
    for stem in draft.stems:
        files = [f for f in folder.named(stem) if _may_be(f, draft) and f.corpus_below is None]
        groups.append(_Group(files, is_clip=True, is_own=False))
    if draft.is_named_in_words:
        near = (f for stem in draft.stems for f in folder.named_loosely(stem))
        files = [
            f
            for f in dict.fromkeys(near)
            if f.path.stem not in exact_stems
            and _may_be(f, draft)
            and (_is_own(f, corpus, draft) or f.corpus_below is None)
        ]
        is_own = any(_is_own(f, corpus, draft) for f in files)
        groups.append(_Group(files, is_clip=True, is_own=is_own))
    return groups


def _is_common(stem: str, draft: Draft) -> bool:
    """Whether other corpora may have a file of this name: numbers and words."""
    return draft.is_named_in_words or stem.partition(".")[0].isdigit()


def _may_be(file: MediaFile, draft: Draft) -> bool:
    """Whether no folder tells of another split."""
    return not file.folder_words & draft.other_folder_words


def _is_own(file: MediaFile, corpus: str, draft: Draft) -> bool:
    if corpus not in CORPORA:  # a user's own: nothing is known of its folders
        return True
    return file.corpus == corpus or (draft.parent or None) == file.path.parent.name


def _choose(draft: Draft, corpus: str, folder: MediaFolder, group: _Group) -> Found | Unsure:
    def unsure(files: Sequence[MediaFile], reason: str) -> Unsure:
        shown = tuple(str(f.path) for f in files)
        return Unsure(clip_id=draft.clip_id, files=shown, reason=reason)

    looks = {f.path: look_into(folder.root / f.path) for f in group.files}
    usable = {p: c for p, c in looks.items() if isinstance(c, Contents)}
    if not usable:
        return unsure(group.files, str(looks[group.files[0].path]))
    files = [f for f in group.files if f.path in usable]
    if folder.names_a_corpus(corpus) and not group.is_own:
        reason = f"may be another corpus's; put it into a folder named {corpus}"
        return unsure(files, reason)
    sounds = [f for f in files if usable[f.path].has_sound and not usable[f.path].has_picture]
    videos = [f for f in files if usable[f.path].has_picture]
    audio, video = _one(folder, sounds, draft), _one(folder, videos, draft)
    for chosen, some in ((audio, sounds), (video, videos)):
        if chosen is None and some:
            return unsure(some, "several files that differ have the clip's name; keep one")
    if audio is None and video is not None and not usable[video.path].has_sound:
        return unsure(videos, "has pictures but no sound")
    named = audio or video
    assert named is not None  # some file is usable
    cuts = [_cut(draft, corpus, f, usable[f.path], group) for f in (audio, video) if f is not None]
    for cut in cuts:
        if isinstance(cut, str):
            return unsure([f for f in (audio, video) if f is not None], cut)
    sure = [c for c in cuts if isinstance(c, Cut)]
    if len({c.start_s for c in sure}) > 1:
        return unsure(files, "sound and video begin at different times of the source; keep one")
    cut = min(sure, key=lambda c: c.duration_s or 0.0)
    cut = replace(cut, is_whole_file=any(c.is_whole_file for c in sure))
    return Found(
        audio=None if audio is None else str(audio.path),
        video=None if video is None else str(video.path),
        cut=cut,
    )


_SEGMENTS_OF_AUDIOSET = ("audioset", "audiocaps", "wavcaps")


def _cut(
    draft: Draft, corpus: str, file: MediaFile, contents: Contents, group: _Group
) -> Cut | str:
    is_cut_name = file.times is not None and file.times.is_cut_name
    duration_s = draft.duration_s
    start_s = draft.source_start_s if draft.youtube_id else None
    cut = cut_of(
        contents.duration_s,
        start_s=start_s,
        duration_s=duration_s,
        is_clip=group.is_clip,
        is_sure=group.is_own or not draft.youtube_id,
    )
    if isinstance(cut, str) and is_cut_name and duration_s and contents.duration_s < duration_s:
        cut = Cut(0.0, contents.duration_s, is_whole_file=True, is_short=True)
    is_by_video = bool(draft.youtube_id) and not group.is_clip
    is_cut = isinstance(cut, Cut) and cut.is_whole_file
    if is_by_video and is_cut and _is_of_other_segments(file, corpus):
        return f"lies in a folder of {file.corpus}, which may have cut it elsewhere"
    return cut


def _is_of_other_segments(file: MediaFile, corpus: str) -> bool:
    if file.corpus in (None, corpus) or corpus not in CORPORA:
        return False
    return not {file.corpus, corpus} <= set(_SEGMENTS_OF_AUDIOSET)


def _one(folder: MediaFolder, files: Sequence[MediaFile], draft: Draft) -> MediaFile | None:
    """Choose among files of one name: in one folder by suffix, elsewhere only if they are equal."""
    preferred = [f for f in files if f.folder_words & draft.folder_words] or list(files)
    by_folder: dict[PurePosixPath, MediaFile] = {}
    for file in sorted(preferred, key=lambda f: SUFFIXES.index(f.path.suffix.lower())):
        by_folder.setdefault(file.path.parent, file)
    if not by_folder:
        return None
    first, *others = by_folder.values()
    same = (
        filecmp.cmp(folder.root / first.path, folder.root / o.path, shallow=False) for o in others
    )
    return first if all(same) else None
