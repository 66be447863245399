"""Jobs of the kind stems: the stems of a take, one of them anew, and their mixes.

In:   takes that were made of stems, or requests of takes that were not.
Out:  takes with stems; a mix with other gains and places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omni2sound.errors import UserError
from omni2sound.generate.stems.description import Room
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.mix import changed
from omni2sound.generate.stems.remix import Mixing, remake, save_mix
from omni2sound.serve.bodies import GenerateBody, StemInfo, StemPlace, StemsBody, Take
from omni2sound.serve.errors import NotFoundError
from omni2sound.serve.store import Store
from omni2sound.serve.work.generate import generate
from omni2sound.serve.work.takes import (
    TAKE_OPTIONS,
    find_take,
    open_stems,
    outputs_of,
    stems_of,
    take_of,
)

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline


def check(body: StemsBody, store: Store) -> None:
    """Refuse stems of what has none.

    Raises:
        NotFoundError: The take is gone.
        UserError: The take was edited, or has no such stem.
    """
    if body.anew is not None:
        open_stems(store, body.take)[1].stem(body.anew)
    elif not stems_folder(store.take_path(body.take)).is_dir():
        _request_of(store, body.take)


def run(
    pipeline: TorchPipeline,
    store: Store,
    job_id: str,
    body: StemsBody,
    done: Callable[[Take], None],
) -> list[StemInfo]:
    """Return the stems of a take; where it has none or one is made anew, those of a new take."""
    path = store.take_path(body.take)
    if body.anew is not None:
        take = _with_new_stem(pipeline, store, job_id, body, find_take(store, body.take))
        done(take)
        return take.stems
    if stems_folder(path).is_dir():
        return stems_of(body.take, path)
    made: list[Take] = []
    generate(pipeline, store, job_id, _request_of(store, body.take), made.append)
    for take in made:
        done(take)
    return made[0].stems


def _request_of(store: Store, take_id: str) -> GenerateBody:
    """The request of one take, to be made of stems."""
    take = find_take(store, take_id)
    job = store.record(take.job).job
    if job.kind != "generate":
        raise UserError(
            "is an edit of a take without stems; make those of the take before it", field="take"
        )
    body = GenerateBody.model_validate(job.request, strict=False)
    return body.model_copy(update={"seed": take.seed, "takes": 1, "stems": True})


def _with_new_stem(
    pipeline: TorchPipeline, store: Store, job_id: str, body: StemsBody, take: Take
) -> Take:
    film = None if take.media is None else store.media_path(take.media)
    mixing = remake(
        pipeline, mixing_of(store, body.take, {}), body.anew or "", body.seed or 0, film
    )
    (output,) = outputs_of(store, job_id, 1)
    report = save_mix(mixing, output, video=None, options=TAKE_OPTIONS)
    made = take_of(job_id, 1, report, store)
    kept = {"media": take.media, "start_s": take.start_s, "seen": take.seen, "edited": take.id}
    video = None if take.video is None else made.video
    return made.model_copy(update={**kept, "video": video})


def mixing_of(store: Store, take_id: str, places: Mapping[str, StemPlace]) -> Mixing:
    """Open the stems of a take with other places in the mix.

    Args:
        store: The store.
        take_id: The take.
        places: By name or id of a stem; others are as they were made.

    Raises:
        NotFoundError: The take has no stems.
        UserError: There is no stem of a name.
    """
    folder, description = open_stems(store, take_id)
    changes = {
        name.removeprefix(f"{take_id}."): {
            "gain_db": place.gain_db,
            "pan": place.pan,
            "mute": place.mute,
            **({} if place.room_s is None else {"room": Room(seconds=place.room_s)}),
        }
        for name, place in places.items()
    }
    return Mixing.read(folder, changed(description, changes))


def check_places(store: Store, take_id: str, places: Mapping[str, StemPlace]) -> None:
    """Refuse places of stems that a take does not have.

    Raises:
        UserError: There is no such stem.
    """
    try:
        folder, description = open_stems(store, take_id)
    except NotFoundError:
        raise UserError("the take has no stems; make them first", field="mix") from None
    del folder
    for name in places:
        description.stem(name.removeprefix(f"{take_id}."))


def mix_file(store: Store, take_id: str, places: Mapping[str, StemPlace], target: Path) -> Path:
    """Mix the stems of a take to a file that can be exported like a take."""
    save_mix(mixing_of(store, take_id, places), target, video=None, options=TAKE_OPTIONS)
    return target
