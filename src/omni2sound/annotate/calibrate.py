"""Thresholds of a scorer, measured on clips whose captions are known to be true.

In:   a manifest of clips with captions, perhaps scenes with exact events; a scorer.
Out:  `Calibration`: `Thresholds` with what they cost, and a file that `annotate run --thresholds`
      reads.

True pairs are a clip's sound with its own caption, picture and events; wrong pairs take those of
another clip that shares no caption and no label with it. What not to get wrong: thresholds hold for
the material they were measured on, and are chosen here, so their shares on these clips flatter
them a little.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.build import CrewSettings, published_scorer
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import Thresholds
from omni2sound.annotate.local.roles import LocalScorer
from omni2sound.annotate.records import Caption, Failure, Fit, HeardEvent, Perception
from omni2sound.annotate.roles import Scorer, SourceClip, Work
from omni2sound.annotate.runs import source_clips
from omni2sound.data.corpora.manifest import Clip, read_manifest
from omni2sound.data.workers import Workers, kept_workers
from omni2sound.errors import UserError
from omni2sound.files import write_text
from omni2sound.readers import read_text
from omni2sound.scenes.export.files import EVENTS
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.scene import Scene
from omni2sound.weights import resolve_model

_LEAST_CLIPS = 20
_LEAST_MUSIC = 50
"""Least clips of music for thresholds of their own."""
_STEP = 1e-4
"""Scores are rounded to it."""
_OFF = -1.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownClip:
    """A clip and what is true of it."""

    clip: SourceClip
    caption: str
    labels: frozenset[str] = frozenset()
    present: tuple[HeardEvent, ...] = ()
    absent: tuple[HeardEvent, ...] = ()
    """Events that don't occur, each in the span of one that does."""

    @property
    def is_music(self) -> bool:
        """Whether caption or labels speak of music."""
        return "music" in " ".join([self.caption, *self.labels]).lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Scores of true and wrong pairs of one kind, and the threshold between them."""

    name: str
    true_N: NDArray[np.float64]
    wrong_N: NDArray[np.float64]
    threshold: float

    @property
    def lost(self) -> float:
        """Share of true pairs below the threshold."""
        return float((self.true_N < self.threshold).mean())

    @property
    def passed(self) -> float:
        """Share of wrong pairs at or above the threshold."""
        return float((self.wrong_N >= self.threshold).mean())

    @property
    def auc(self) -> float:
        """Chance that a true pair scores higher than a wrong one; ties count half."""
        wrong = np.sort(self.wrong_N)
        below = np.searchsorted(wrong, self.true_N, "left")
        ties = np.searchsorted(wrong, self.true_N, "right") - below
        return float((below + ties / 2).mean() / len(wrong))

    def __str__(self) -> str:
        return (
            f"{self.name} | {len(self.true_N)} | {len(self.wrong_N)} | {self.threshold:.4f} | "
            f"{self.lost:.3f} | {self.passed:.3f} | {self.auc:.3f}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Thresholds, and what they were measured on."""

    thresholds: Thresholds
    pairs: tuple[Pairs, ...]
    num_failed: int
    """Clips that could not be read."""

    def __str__(self) -> str:
        rows = ["threshold | true | wrong | value | true lost | wrong passed | AUC"]
        rows += map(str, self.pairs)
        if self.num_failed:
            rows.append(f"{self.num_failed} clips could not be read")
        return "\n".join(rows)

    def write(self, path: Path) -> None:
        """Write the file that `annotate run --thresholds` reads."""
        row = {f.name: getattr(self.thresholds, f.name) for f in fields(self.thresholds)}
        name = row.pop("scorer")
        lines = [f"# {line}" for line in str(self).splitlines()]
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in row.items())]
        write_text(path, "\n".join(lines) + "\n")


async def calibrate(
    known: Sequence[KnownClip],
    scorer: Scorer,
    *,
    lose: float = 0.05,
    let_pass: float = 0.05,
    seed: int = 0,
    source: str,
    on_progress: Progress | None = None,
) -> Calibration:
    """Measure a scorer's thresholds.

    Args:
        known: At least 20 clips.
        scorer: Scores pairs.
        lose: Share of true pairs of sound and picture that routing may drop.
        let_pass: Share of wrong captions and events that the filter may keep.
        seed: Of the wrong pairs.
        source: What the clips are, for the file.
        on_progress: Called with pairs done and in all.

    Raises:
        UserError: Too few clips, or none with a partner.
    """
    if len(known) < _LEAST_CLIPS:
        raise UserError(
            f"{len(known)} clips with captions: expected at least {_LEAST_CLIPS}, better hundreds",
            field="manifest",
        )
    partners = _partners(known, seed)
    seen = [(k, p) for k, p in zip(known, partners, strict=True) if _can_swap(k.clip, p.clip)]
    swapped = [replace(k.clip, video=p.clip.video) for k, p in seen]
    total = len(known) + len(swapped) + 2 * len(known)
    count = _Counter(total, on_progress)
    perceived = await _perceive(scorer, [k.clip for k in known], count)
    mixed = await _perceive(scorer, swapped, count)
    works = [
        (index, Work(clip=k.clip, perception=perceived[index], caption=caption))
        for index, (k, p) in enumerate(zip(known, partners, strict=True))
        if index in perceived
        for caption in (
            Caption(text=k.caption, events=(*k.present, *k.absent), is_music=k.is_music),
            Caption(text=p.caption, is_music=k.is_music),
        )
    ]
    fits: dict[int, Fit] = {}
    async for number, fit in scorer.score([work for _, work in works]):
        fits[number] = fit
        count()
    found = _Scores()
    found.add_pictures(perceived, mixed)
    for number, (index, _) in enumerate(works):
        found.add_caption(known[index], fits[number], is_own=not number % 2)
    return found.calibration(
        scorer.name, lose, let_pass, source, num_failed=len(known) - len(perceived)
    )


class _Counter:
    def __init__(self, total: int, report: Progress | None) -> None:
        self.done, self.total, self.report = 0, total, report

    def __call__(self) -> None:
        self.done += 1
        if self.report is not None:
            self.report(self.done, self.total)


def _partners(known: Sequence[KnownClip], seed: int) -> list[KnownClip]:
    """Choose for each clip another one that shares no caption and no label with it."""
    order = list(range(len(known)))
    random.Random(seed).shuffle(order)
    partners: dict[int, KnownClip] = {}
    for place, index in enumerate(order):
        for other in (*order[place + 1 :], *order[:place]):
            a, b = known[index], known[other]
            if a.caption != b.caption and not a.labels & b.labels:
                partners[index] = b
                break
        else:
            raise UserError(
                f"{known[index].clip.name}: every other clip has its caption or one of its labels; "
                "expected clips of several kinds",
                field="manifest",
            )
    return [partners[index] for index in range(len(known))]


def _can_swap(clip: SourceClip, other: SourceClip) -> bool:
    """Whether the other clip's picture can stand beside this sound: spans must be the same."""
    span, theirs = (clip.start_s, clip.duration_s), (other.start_s, other.duration_s)
    return clip.video is not None and other.video is not None and span == theirs


async def _perceive(
    scorer: Scorer, clips: Sequence[SourceClip], count: _Counter
) -> Mapping[int, Perception]:
    found: dict[int, Perception] = {}
    done: AsyncIterator[tuple[int, Perception | Failure]] = scorer.perceive(
        [Work(clip=clip) for clip in clips]
    )
    async for index, perception in done:
        count()
        if isinstance(perception, Perception):
            found[index] = perception
    return found


class _Scores:
    """Scores by kind of pair, true ones first."""

    def __init__(self) -> None:
        kinds = ("picture", "sentence", "music", "event")
        self._of: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in kinds}

    def add_pictures(self, own: Mapping[int, Perception], mixed: Mapping[int, Perception]) -> None:
        for place, some in enumerate((own, mixed)):
            self._of["picture"][place].extend(
                p.similarity for p in some.values() if p.similarity is not None
            )

    def add_caption(self, known: KnownClip, fit: Fit, *, is_own: bool) -> None:
        for kind in ("sentence", *(["music"] if known.is_music else [])):
            self._of[kind][not is_own].append(fit.caption)
        if is_own and fit.events:
            for number, score in enumerate(fit.events):
                if score is not None:
                    self._of["event"][number >= len(known.present)].append(score)

    def calibration(
        self, scorer: str, lose: float, let_pass: float, source: str, *, num_failed: int
    ) -> Calibration:
        pairs, values = [], dict.fromkeys(("hand_off", "drop"), _OFF)
        values |= dict.fromkeys(("route_drop", "route_audio_visual"), _OFF)
        true, wrong = (np.array(some, dtype=np.float64) for some in self._of["picture"])
        if len(true) and len(wrong):
            values["route_drop"] = round(float(np.quantile(true, lose, method="lower")), 4)
            best = _most_accurate(true, wrong)
            values["route_audio_visual"] = max(values["route_drop"], best)
            pairs = [
                Pairs(name=name, true_N=true, wrong_N=wrong, threshold=values[name])
                for name in ("route_drop", "route_audio_visual")
            ]
        for kind, ending in (("sentence", ""), ("music", "_music"), ("event", "_event")):
            true, wrong = (np.array(some, dtype=np.float64) for some in self._of[kind])
            least = _LEAST_MUSIC if kind == "music" else 1
            if min(len(true), len(wrong)) >= least:
                value = _keeps_at_most(wrong, let_pass)
                pairs.append(
                    Pairs(name=f"drop{ending}", true_N=true, wrong_N=wrong, threshold=value)
                )
            else:
                value = values["drop"] if kind == "music" else _OFF
            values |= {f"drop{ending}": value, f"hand_off{ending}": value}
        text = (
            f"annotate calibrate on {source}: routing loses {lose:g} of true pairs, {let_pass:g} "
            "of wrong captions pass; hand_off = drop"
        )
        thresholds = Thresholds(scorer=scorer, source=text, **values)
        return Calibration(thresholds=thresholds, pairs=tuple(pairs), num_failed=num_failed)


def _keeps_at_most(wrong_N: NDArray[np.float64], share: float) -> float:
    """Lowest threshold that at most `share` of the wrong scores reach."""
    descending = np.sort(wrong_N)[::-1]
    first_out = min(int(share * len(descending)), len(descending) - 1)
    return round(float(descending[first_out]) + _STEP, 4)


def _most_accurate(true_N: NDArray[np.float64], wrong_N: NDArray[np.float64]) -> float:
    """Threshold that maximises the share of true pairs above minus that of wrong ones above."""
    values = np.unique(np.concatenate([true_N, wrong_N]))
    above = [
        1 - np.searchsorted(np.sort(some_N), values, "right") / len(some_N)
        for some_N in (true_N, wrong_N)
    ]
    return round(float(values[np.argmax(above[0] - above[1])]), 4)


def known_clips(
    manifest: Path, scenes: Sequence[Path] = (), *, limit: int | None = None, seed: int = 0
) -> list[KnownClip]:
    """Read clips with captions, and their events where they are scenes.

    Args:
        manifest: Clips, as `data import` or `scenes build` write them; those without a caption are
            left out.
        scenes: Folders of built scenes, whose events are known exactly.
        limit: Most clips, drawn from all; None takes all.
        seed: Of the draw and of absent events.

    Raises:
        ConfigError: The manifest is wrong.
    """
    read = read_manifest(manifest)
    rng = random.Random(seed)
    found = [
        (clip, source)
        for clip, source in zip(read.clips, source_clips(read), strict=True)
        if clip.captions or clip.audio_captions
    ]
    if limit is not None and limit < len(found):
        found = [found[i] for i in sorted(rng.sample(range(len(found)), limit))]
    truth = {
        path.parent.name: Scene.from_json(read_text(path))
        for folder in scenes
        for path in sorted(folder.glob(f"*/{EVENTS}"))
    }
    catalogue = Catalogue.load() if truth else None
    return [_known(clip, source, truth.get(clip.clip_id), catalogue, rng) for clip, source in found]


def _known(
    clip: Clip,
    source: SourceClip,
    scene: Scene | None,
    catalogue: Catalogue | None,
    rng: random.Random,
) -> KnownClip:
    present: tuple[HeardEvent, ...] = ()
    absent: tuple[HeardEvent, ...] = ()
    labels = frozenset(clip.labels)
    if scene is not None and catalogue is not None:
        here = {event.class_id for event in scene.events}
        labels |= here
        elsewhere = [class_id for class_id in catalogue.class_ids if class_id not in here]
        present = tuple(
            HeardEvent(
                what=catalogue.sound_class(event.class_id).names[0],
                start_s=max(0.0, event.onset_s),
                end_s=event.offset_s,
            )
            for event in scene.events
        )
        absent = tuple(
            replace(event, what=catalogue.sound_class(rng.choice(elsewhere)).names[0])
            for event in present
        )
    return KnownClip(
        clip=source,
        caption=(clip.captions or clip.audio_captions)[0],
        labels=labels,
        present=present,
        absent=absent,
    )


async def calibrate_manifest(
    manifest: Path,
    settings: CrewSettings,
    *,
    scenes: Sequence[Path] = (),
    limit: int | None = None,
    lose: float = 0.05,
    let_pass: float = 0.05,
    seed: int = 0,
    workers: Workers = Workers(),
    on_progress: Progress | None = None,
) -> Calibration:
    """Measure the thresholds of `settings.scorer` on a manifest; see `calibrate`, `known_clips`.

    Raises:
        UserError: Too few clips.
        MissingPartError: A network is missing.
    """
    known = known_clips(manifest, scenes, limit=limit, seed=seed)
    executor = Executor(workers=workers)
    scorer: Scorer
    if settings.weights is None:
        scorer = LocalScorer(joint=resolve_model(settings.joint), executor=executor)
    else:
        scorer = published_scorer(settings, settings.weights, executor, tags=False)
    with kept_workers():
        return await calibrate(
            known,
            scorer,
            lose=lose,
            let_pass=let_pass,
            seed=seed,
            source=f"{len(known)} clips of {manifest.name}",
            on_progress=on_progress,
        )
