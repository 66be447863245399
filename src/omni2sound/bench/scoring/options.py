"""Execution settings of scoring, shared by runs and comparisons.

In:   names of taggers, folders, workers.
Out:  `ScoringOptions`, and the type of a progress report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from omni2sound.bench.metrics.avbench.clips import Networks
from omni2sound.bench.metrics.network_scores import ClipNetworks
from omni2sound.bench.metrics.tagging import load_tagger
from omni2sound.bench.systems.baseline_files import NUM_REMEMBERED, Embedders
from omni2sound.data.workers import EngineName, Workers, default_workers
from omni2sound.encoders.metric.aesthetics import Aesthetics
from omni2sound.encoders.metric.pe_av import PeAFrame, PeAv
from omni2sound.errors import UserError
from omni2sound.files import cache_dir, corpus_folder
from omni2sound.readers import open_tensors, read_object

TAGGERS = ("yamnet", "tagger")
"""The bundled taggers: YAMNet leads, the in-domain one is the second."""


class OnStep(Protocol):
    """Progress of a run."""

    def __call__(self, step: str, /) -> Callable[[int, int], None]:
        """Return a function of (jobs done, jobs in all) for one step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedNetworks:
    """Folder of the networks of avbench-8s-v1, which are not part of this package."""

    weights: Path
    """See docs/guides/full-size.md."""
    device: str = "auto"
    load: Callable[[Path, torch.device | str], Networks] = Networks.load
    """Importable by name."""
    workers: Workers = Workers()
    """One is this process; with more, each holds all networks, and so does this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipNetworkSources:
    """Folders or Hub ids of the networks of `metrics.network_scores`; None leaves one out."""

    pe_av: str | None = None
    pe_a_frame: str | None = None
    aesthetics: str | None = None
    device: str = "cpu"
    load: Callable[[str | None, str | None, str | None, torch.device | str], ClipNetworks] = (
        ClipNetworks.load
    )
    """Importable by name."""
    workers: Workers = Workers()
    """One is this process; with more, each holds all networks, and so does this."""

    def check(self) -> None:
        """Find the files of the published networks before anything is made.

        Raises:
            MissingPartError: A file or a package is missing.
            UserError: A Hub id has no pinned revision.
            ConfigError: A file is not of the format that its name says.
        """
        for kind, source in (
            (PeAv, self.pe_av),
            (PeAFrame, self.pe_a_frame),
            (Aesthetics, self.aesthetics),
        ):
            if source is not None:
                folder = kind.check(source)
                read_object(folder / "config.json")
                with open_tensors(folder / "model.safetensors"):
                    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringOptions:
    """Execution settings; only `taggers` and `num_remembered` affect results."""

    taggers: tuple[str, ...]
    """Names of audio taggers; the classes of the first two count for `stage-v1`."""
    cache_folder: Path
    published: PublishedNetworks | None = None
    """The networks of avbench-8s-v1; None leaves that protocol out."""
    clip_networks: ClipNetworkSources | None = None
    """PE-AV, PE-A-Frame and Audiobox-Aesthetics; None leaves their protocols out."""
    assets: Path | None = None
    """The scene corpus, for baselines and for `copies-v1`; None leaves them out."""
    num_remembered: int = NUM_REMEMBERED
    """Training scenes of each part to retrieve from."""
    embed: Embedders = field(default_factory=Embedders)
    workers: Workers = Workers()


def scoring_options(
    taggers: Sequence[str] = TAGGERS,
    *,
    cache_folder: Path | None = None,
    corpus: Path | None = None,
    weights: Path | None = None,
    clip_networks: ClipNetworkSources | None = None,
    engine: EngineName = "local",
    num_workers: int | None = None,
    gpus: tuple[str, ...] = (),
) -> ScoringOptions:
    """Fill in the defaults of scoring.

    Args:
        taggers: Names of audio taggers.
        cache_folder: Folder of measurements. Default: `bench` in the cache folder.
        corpus: The scene corpus. Default: that in the cache folder, if it is there.
        weights: Folder of the networks of avbench-8s-v1. Default: without that protocol.
        clip_networks: Where PE-AV and the like are. Default: without their protocols.
        engine: Runs the jobs.
        num_workers: Jobs at a time. Default: one a core; one alone for avbench-8s-v1.
        gpus: CUDA devices that the workers share. Default: all workers see what this process sees.

    Raises:
        ConfigError: There is no such tagger.
        MissingPartError: A tagger's network is not installed.
        UserError: No tagger is named.
    """
    if not taggers:
        raise UserError("expected at least one name, got none", field="taggers")
    for name in taggers:
        load_tagger(name)
    folder = corpus_folder(corpus)
    return ScoringOptions(
        taggers=tuple(dict.fromkeys(taggers)),
        published=None
        if weights is None
        else PublishedNetworks(
            weights=weights, workers=Workers(engine=engine, count=num_workers or 1)
        ),
        clip_networks=clip_networks,
        cache_folder=cache_folder or cache_dir() / "bench",
        assets=folder if corpus or folder.is_dir() else None,
        workers=Workers(engine=engine, count=num_workers or default_workers(), gpus=gpus),
    )
