"""A film in scenes: a project with one step for each, from one cut to another.

In:   a film.
Out:  project.json, in which people then change prompts and seeds.

The film is read once, a picture at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from omni2sound.config import checked_number
from omni2sound.errors import MediaError, UserError
from omni2sound.files import file_sha256, write_json
from omni2sound.generate.hand_over.timecode import own_start
from omni2sound.generate.project.description import FILE, KEY, VERSION
from omni2sound.media.files import shown_name
from omni2sound.media.info import probe
from omni2sound.readers import real_path
from omni2sound.recognise.cuts import find_cuts
from omni2sound.stages import enter

SHORTEST_S = 4.0
"""Below it, a clip says little about what is heard."""
SHORTEST_RANGE_S = (0.5, 600.0)


def scene_starts(
    cuts_s: Sequence[float], duration_s: float | Fraction, shortest_s: float
) -> list[float]:
    """Choose the cuts at which scenes begin.

    A shot that is too short goes with the one before it, the first ones with what follows.

    Args:
        cuts_s: Seconds of cuts, in order.
        duration_s: Length of the film.
        shortest_s: Least length of a scene; only a shorter film has a shorter one.

    Returns:
        Seconds, 0 and some of the cuts.
    """
    starts = [0.0]
    for cut_s in cuts_s:
        if cut_s - starts[-1] >= shortest_s and duration_s - Fraction(cut_s) >= shortest_s:
            starts.append(cut_s)
    return starts


def write_scenes(folder: Path, film: Path, *, shortest_s: float = SHORTEST_S) -> Path:
    """Write the project of a film: a `generate` step for each scene, and a hand-over of all.

    Args:
        folder: The project; it holds the film.
        film: The film.
        shortest_s: Least length of a scene, .5 to 600 seconds.

    Returns:
        The description.

    Raises:
        MediaError: The film can't be read or has no moving picture.
        UserError: The folder has a project already, or the film lies outside of it.
    """
    low, high = SHORTEST_RANGE_S
    checked_number(shortest_s, "shortest", whole=False, least=low, most=high, unit=" of seconds")
    path = folder / FILE
    if path.exists():
        raise UserError(f"{path}: exists already; change its steps, or choose another folder")
    if not real_path(film).is_relative_to(real_path(folder)):
        raise UserError(
            f"{film} lies outside of {folder}; expected a film in the folder of its project: copy "
            "it there first",
            field="film",
        )
    info = probe(film)
    if info.video is None or info.video.is_still:
        raise MediaError(f"{shown_name(film)}: has no moving picture; give a film")
    enter("looking for cuts")
    sha256 = file_sha256(film)
    starts = scene_starts(find_cuts(film, info.duration_s), info.duration_s, shortest_s)
    width = max(2, len(str(len(starts))))
    steps = []
    for number, (start_s, end_s) in enumerate(zip(starts, [*starts[1:], None], strict=True), 1):
        span = {"start_s": start_s} | ({} if end_s is None else {"end_s": end_s})
        name = f"scene-{number:0{width}}"
        steps.append({"id": name, "do": "generate", "seed": number, "settings": span})
    film_start_s, _ = own_start(film)
    handed = {"film_start_s": film_start_s} if film_start_s else {}
    data = {
        KEY: VERSION,
        "video": real_path(film).relative_to(real_path(folder)).as_posix(),
        "video_sha256": sha256,
        "steps": steps,
        "hand_over": {"takes": [step["id"] for step in steps], **handed},
    }
    write_json(path, data)
    return path
