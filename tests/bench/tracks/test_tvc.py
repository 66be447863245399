"""VGGSound-TVC: each level of the published table is a track over the same videos."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from omni2sound.bench.tracks.public import build_corpus_track
from omni2sound.bench.tracks.track import TASKS
from omni2sound.bench.tracks.tvc import CLIP_S, COLUMNS, Level, read_tvc
from omni2sound.data.corpora.assemble import assemble
from omni2sound.data.corpora.finding.folder import MediaFolder
from omni2sound.errors import UserError
from tests.annotate.crews import sound_file
from tests.media.clips import write_video

ROWS = (  # in the published form, other words
    ["aaaaaaaaaaa_000032", "dog, hound", "dog barks", "seal barks", "dog coughs", "axe", "rain"],
    ["bbbbbbbbbbb_000000", "cat, kitten", "cat purrs", "engine", "cat snores", "saw", "waves"],
    ["ccccccccccc_000123", "gone", "gone", "gone", "gone", "gone", "gone"],
)


def table(folder: Path, *more: str) -> Path:
    path = folder / "conflict_dataset_full.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *("\t".join(row) for row in ROWS), *more]))
    return path


def test_every_level_is_a_track_of_the_videos_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for row in ROWS[:2]:
        write_video(tmp_path / "media" / f"{row[0]}.mp4", ticks=range(0, 6000, 300))
        sound_file(tmp_path / "media" / f"{row[0]}.wav", duration_s=10)
    path = table(tmp_path)
    for place, level in enumerate(get_args(Level), start=2):
        media = MediaFolder(tmp_path / "media")
        clips, listed = assemble("vggsound", read_tvc(path, level), media)
        assert listed.missing == (ROWS[2][0],), "a video that is gone is reported"
        track = build_corpus_track(
            f"vggsound-tvc-{level}", clips, media.root, tmp_path / level, clip_s=CLIP_S, seed=0
        )
        assert track.info.tasks == TASKS
        assert [c.caption for c in track.clips] == [row[place] for row in ROWS[:2]]
        assert [c.label for c in track.clips] == [row[1] for row in ROWS[:2]]
        assert all(c.video is not None for c in track.clips)


def test_other_tables_and_damaged_rows_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "other.tsv"
    wrong.write_text("video_id,label\n")
    with pytest.raises(UserError, match="tab-separated; got video_id,label"):
        list(read_tvc(wrong, "L2"))
    path = table(tmp_path, "short\trow", "\t".join(["no id", *"abcdef"]))
    (tmp_path / "media").mkdir()
    _, listed = assemble("vggsound", read_tvc(path, "L3"), MediaFolder(tmp_path / "media"))
    assert [(p.line, p.reason.split(":")[0]) for p in listed.problems] == [
        (5, "expected 7 cells with text, got 2"),
        (6, "video_id 'no id'"),
    ]
