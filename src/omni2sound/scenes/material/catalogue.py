"""The catalogue of scene material: sound classes, recordings and pictures, by name.

In:   `catalogue.json` (the kinds of the benchmark scenes) and `more_kinds.json` (kinds that only
      training uses), committed beside this module.
Out:  a `Catalogue` of frozen records. `fetch` gets the files, `assets` reads them.

What not to get wrong: a *family* (package + file stem + near-duplicates: takes, velocity layers,
pitches of one instrument, mirrored pictures) lies in one split only, and the split was fixed
before any network was trained. `Catalogue` refuses anything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar, get_args

from omni2sound.config import from_json
from omni2sound.errors import ConfigError
from omni2sound.readers import parse_json, read_text

Split = Literal["train", "val", "test"]
Kind = Literal["impulsive", "repeated", "sustained", "continuous"]
KindSet = Literal["bench", "all"]
Motion = Literal["strike", "bounce", "shake", "pulse", "pass_by", "speak", "open"]

SPLITS: tuple[Split, ...] = get_args(Split)
MOTIONS: tuple[Motion, ...] = get_args(Motion)

DISTRACTOR = "distractor"
"""`class_id` of pictures of silent things."""

MAX_YAMNET_CLASSES = 3
"""Largest number of leaf classes that count as a hit, or a hit says too little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundClass:
    """One class of sounds, and its names."""

    class_id: str
    names: tuple[str, ...]
    """Noun phrases with article, for captions of the training and validation splits."""
    held_out_names: tuple[str, ...]
    """Synonyms that only test captions use."""
    verbs: tuple[str, ...]
    """Third person singular, as in "a dog *barks*"."""
    held_out_verbs: tuple[str, ...]
    """Verbs that only test captions use."""
    kind: Kind
    """Impulsive: one clear onset within 50 ms. Repeated: single hits that come in rows, like steps.
    Continuous: goes on by itself, like wind. Sustained: all others."""
    motions: tuple[Motion, ...]
    """How a picture of it may move while it sounds; empty without pictures."""
    yamnet_classes: tuple[str, ...]
    """AudioSet display names that count as a hit; fixed before training."""
    pictures: bool
    """Whether the catalogue has pictures of it."""

    def __post_init__(self) -> None:
        for name in ("names", "held_out_names", "verbs", "held_out_verbs", "yamnet_classes"):
            if not getattr(self, name):
                raise ConfigError(f"class {self.class_id!r} needs at least one entry in {name}")
        if len(self.yamnet_classes) > MAX_YAMNET_CLASSES:
            raise ConfigError(
                f"class {self.class_id!r} maps to {len(self.yamnet_classes)} YAMNet classes; "
                f"at most {MAX_YAMNET_CLASSES} may count as a hit"
            )
        if self.kind not in get_args(Kind):
            raise ConfigError(f"class {self.class_id!r}: unknown kind {self.kind!r}")
        unknown = sorted(set(self.motions) - set(MOTIONS))
        if unknown:
            raise ConfigError(
                f"class {self.class_id!r}: unknown motions {unknown}; known: {', '.join(MOTIONS)}"
            )
        shared = (set(self.names) & set(self.held_out_names)) | (
            set(self.verbs) & set(self.held_out_verbs)
        )
        if shared:
            raise ConfigError(
                f"class {self.class_id!r}: {sorted(shared)} are both trained on and held out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One sound in a package, cut so that it starts with its onset."""

    recording_id: str
    class_id: str
    family: str
    split: Split
    package: str
    """Debian package that holds the file, or `synthesis.SYNTHESIS`."""
    path: str
    """Path in the package; `outer.rcc!inner` for a file in a container; model and variant of a
    synthetic sound."""
    licence: str
    attribution: str
    start_s: float
    """Where the cut begins, seconds from the start of the file."""
    end_s: float
    """Where the cut ends, seconds from the start of the file."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise ConfigError(
                f"recording {self.recording_id!r} must have 0 <= start_s < end_s, "
                f"got {self.start_s} and {self.end_s}"
            )

    @property
    def duration_s(self) -> float:
        """Length of the cut in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One cut-out picture in a package."""

    picture_id: str
    class_id: str
    """A sound class, or `DISTRACTOR`."""
    family: str
    split: Split
    package: str
    path: str
    licence: str
    attribution: str
    label: str
    """Noun phrase with article: "a red apple"."""


_Item = TypeVar("_Item", Recording, Picture)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All classes, recordings and pictures, checked as a whole.

    Raises:
        ConfigError: If an id is used twice, a class is unknown, a licence is missing or a
            family lies in more than one split.
    """

    classes: tuple[SoundClass, ...]
    recordings: tuple[Recording, ...]
    pictures: tuple[Picture, ...]
    version: str = "unversioned"

    def __post_init__(self) -> None:
        _refuse_repeats("class_id", (c.class_id for c in self.classes))
        _refuse_repeats("recording_id", (r.recording_id for r in self.recordings))
        _refuse_repeats("picture_id", (p.picture_id for p in self.pictures))
        known = {c.class_id for c in self.classes}
        _check_items("recording", self.recordings, known)
        _check_items("picture", self.pictures, known | {DISTRACTOR})

    @classmethod
    def load(cls, path: Path | None = None) -> Catalogue:
        """Read `path`, or the catalogue that is committed with the package.

        Raises:
            ConfigError: If the file does not hold a catalogue.
        """
        return _committed() if path is None else cls.from_json(read_text(path))

    @classmethod
    def load_all(cls) -> Catalogue:
        """Read the committed catalogue and the kinds that only training uses, as one.

        Its first classes, recordings and pictures are those of `load`, unchanged.
        """
        return _committed_and_more()

    @classmethod
    def from_json(cls, text: str) -> Catalogue:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: If the text does not hold a catalogue.
        """
        return from_json(cls, parse_json(text, "catalogue"), where="catalogue")

    def to_json(self) -> str:
        """Write one record a line, so that a change shows as a short diff."""
        lines = [f'{{"version": {json.dumps(self.version)}']
        for key in ("classes", "recordings", "pictures"):
            records = ",\n".join(
                "  " + json.dumps(asdict(item), ensure_ascii=False) for item in getattr(self, key)
            )
            lines.append(f',\n"{key}": [\n{records}\n]')
        return "".join(lines) + "}\n"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, as recorded in model cards."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Ids of the classes, in the order of the file."""
        return tuple(c.class_id for c in self.classes)

    def sound_class(self, class_id: str) -> SoundClass:
        """Look up a class.

        Raises:
            ConfigError: If there is none of that name.
        """
        for sound_class in self.classes:
            if sound_class.class_id == class_id:
                return sound_class
        raise ConfigError(
            f"no sound class {class_id!r} in the catalogue; known: {', '.join(self.class_ids)}"
        )

    def recordings_of(self, class_id: str, split: Split) -> tuple[Recording, ...]:
        """Return the recordings of one class in one split, in file order."""
        return self._recordings_by_key.get((class_id, split), ())

    def pictures_of(self, class_id: str, split: Split) -> tuple[Picture, ...]:
        """Return the pictures of one class (or `DISTRACTOR`) in one split, in file order."""
        return self._pictures_by_key.get((class_id, split), ())

    def only(self, licences: Collection[str]) -> Catalogue:
        """Keep items under the given licences; classes without recordings are dropped.

        Raises:
            ConfigError: If a licence is not in the catalogue, or nothing is left.
        """
        known = {r.licence for r in self.recordings} | {p.licence for p in self.pictures}
        unknown = sorted(set(licences) - known)
        if unknown:
            raise ConfigError(
                f"no item has licence {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        recordings = tuple(r for r in self.recordings if r.licence in licences)
        pictures = tuple(p for p in self.pictures if p.licence in licences)
        heard = {r.class_id for r in recordings}
        seen = {p.class_id for p in pictures}
        if not heard:
            raise ConfigError(
                f"no recording is under {', '.join(sorted(licences))}; add another licence"
            )
        return Catalogue(
            version=f"{self.version}+{'+'.join(sorted(licences))}",
            classes=tuple(
                replace(c, pictures=c.class_id in seen) for c in self.classes if c.class_id in heard
            ),
            recordings=recordings,
            pictures=tuple(p for p in pictures if p.class_id in heard | {DISTRACTOR}),
        )

    def of_classes(self, class_ids: Collection[str]) -> Catalogue:
        """Keep these classes and all pictures of silent things, in the same order.

        Scenes drawn from the result equal those of a catalogue without the other classes.

        Raises:
            ConfigError: If none of the classes is in the catalogue.
        """
        classes = tuple(c for c in self.classes if c.class_id in class_ids)
        if not classes:
            raise ConfigError(f"no class of {sorted(class_ids)} is in the catalogue")
        kept = {c.class_id for c in classes}
        return Catalogue(
            version=self.version,
            classes=classes,
            recordings=tuple(r for r in self.recordings if r.class_id in kept),
            pictures=tuple(p for p in self.pictures if p.class_id in kept | {DISTRACTOR}),
        )

    @cached_property
    def _recordings_by_key(self) -> Mapping[tuple[str, str], tuple[Recording, ...]]:
        return _group(self.recordings)

    @cached_property
    def _pictures_by_key(self) -> Mapping[tuple[str, str], tuple[Picture, ...]]:
        return _group(self.pictures)


@dataclass(frozen=True, kw_only=True, slots=True)
class _MoreKinds:
    """What `more_kinds.json` adds: kinds, their items, and training items of known kinds."""

    version: str
    classes: tuple[SoundClass, ...]
    recordings: tuple[Recording, ...]
    pictures: tuple[Picture, ...]


@lru_cache(maxsize=1)
def _committed() -> Catalogue:
    """The committed catalogue; checking thousands of records takes a moment."""
    text = (resources.files(__package__) / "catalogue.json").read_text(encoding="utf-8")
    return Catalogue.from_json(text)


@lru_cache(maxsize=1)
def _committed_and_more() -> Catalogue:
    text = (resources.files(__package__) / "more_kinds.json").read_text(encoding="utf-8")
    base, more = _committed(), from_json(_MoreKinds, json.loads(text), where="more_kinds")
    return Catalogue(
        version=f"{base.version}+{more.version}",
        classes=base.classes + more.classes,
        recordings=base.recordings + more.recordings,
        pictures=base.pictures + more.pictures,
    )


def _group(items: Iterable[_Item]) -> dict[tuple[str, str], tuple[_Item, ...]]:
    groups: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.class_id, item.split), []).append(item)
    return {key: tuple(members) for key, members in groups.items()}


def _refuse_repeats(name: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"{name} {value!r} is used twice; ids must be unique")
        seen.add(value)


def _check_items(what: str, items: Iterable[Recording | Picture], known: Collection[str]) -> None:
    split_of: dict[str, str] = {}
    for item in items:
        name = item.recording_id if isinstance(item, Recording) else item.picture_id
        if item.class_id not in known:
            raise ConfigError(f"{what} {name!r} is of unknown class {item.class_id!r}")
        if item.split not in SPLITS:
            raise ConfigError(f"{what} {name!r}: split {item.split!r}; known: {', '.join(SPLITS)}")
        if not item.licence or not item.attribution:
            raise ConfigError(f"{what} {name!r} has no licence or no attribution")
        if split_of.setdefault(item.family, item.split) != item.split:
            raise ConfigError(
                f"family {item.family!r} is in {split_of[item.family]} and {item.split}; "
                "a family must lie in one split"
            )
