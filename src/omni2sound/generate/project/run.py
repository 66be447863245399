"""Running a project: what is done stays, what changed is made again, and all of it can be repeated.

In:   a folder with project.json, its film beside it.
Out:  takes/ID.wav with sidecars, takes/steps.json, hand-over/.

A step is done if its settings, its inputs' bytes and the model are those of its last run and its
output and stems are as it made them. `repeat` makes all steps again elsewhere and compares bytes.

What not to get wrong: an output or a stem that was changed by hand is replaced only if asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from omni2sound.config import from_json, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import file_sha256
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import parse_range
from omni2sound.generate.edit.source import asked_as_made, check_edit, open_source, start_of
from omni2sound.generate.hand_over.folder import HandOver, hand_over, is_there
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.output import OutputOptions, read_sidecar, save
from omni2sound.generate.project.description import FILE, Project, Step, read_project
from omni2sound.generate.project.state import Done, State, check_untouched, files_of
from omni2sound.generate.stems.mix import changed, open_mix
from omni2sound.generate.stems.remix import Mixing, remake, save_mix
from omni2sound.generate.studio.job import read_job
from omni2sound.generate.studio.request import options_of, request_of, spanned_request
from omni2sound.generate.studio.video import spanned
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import parse_cue
from omni2sound.media.files import shown_name
from omni2sound.media.info import probe
from omni2sound.staging import scratch

TAKES, HANDED = "takes", "hand-over"


@dataclass(slots=True)
class Runner:
    """Runs the steps of one project.

    Attributes:
        folder: The project.
        project: Its description.
        options: Model and device.
        target: Where `takes` lies. Default: the project.
        overwrite: Replace what was changed by hand, too.
    """

    folder: Path
    project: Project
    options: PipelineOptions
    target: Path
    overwrite: bool = False
    _pipeline: TorchPipeline | None = field(default=None)
    _videos: dict[Path, str] = field(default_factory=dict)
    """Digests of videos, each of which is read once."""

    @classmethod
    def open(cls, folder: Path, options: PipelineOptions, *, overwrite: bool = False) -> Runner:
        """Read a project.

        Raises:
            ConfigError: Its description does not hold together.
            UserError: A step is impossible.
        """
        project = read_project(folder)
        return cls(
            folder=folder, project=project, options=options, target=folder, overwrite=overwrite
        )

    def run(self) -> Iterator[tuple[Step, dict[str, Any], bool]]:
        """Make what is not done; yields steps, what their sidecars say, and whether they were done.

        Raises:
            MediaError: A file can't be read.
            UserError: A setting is out of range, the film is not the one whose cuts the project
                holds, or an output that is to be replaced was changed by hand.
        """
        self._check_film()
        takes = self.target / TAKES
        takes.mkdir(exist_ok=True)
        state = State.read(takes)
        for step in self.project.steps:
            output = self.output(step.id)
            digest, files = self._digest(step), files_of(output)
            made, done = read_sidecar(output), state.steps.get(step.id)
            if (
                done is not None
                and done.asked == digest
                and made is not None
                and made["output_sha256"] == files.get(output.name)
                and done.files.items() <= files.items()
            ):
                yield step, made, True
                continue
            if not self.overwrite:
                check_untouched(output, done, files)
            state.steps[step.id] = Done(asked=None, files=files)
            state.write(takes)
            try:
                report = self._make(step, output)
            except UserError as error:
                if done is not None and files_of(output) == files:
                    state.steps[step.id] = done
                    state.write(takes)
                raise UserError(f"step {step.id!r}: {error}") from error
            state.steps[step.id] = Done(asked=digest, files=files_of(output))
            state.write(takes)
            yield step, report, False

    def hand_over(self) -> HandOver | None:
        """Write the hand-over, if the project has one and it is not there as it should be.

        Raises:
            MissingPartError: OpenTimelineIO is not installed.
            UserError: Files were changed or added in an old one that is to be replaced.
        """
        wanted = self.project.hand_over
        if wanted is None:
            return None
        takes = self.target / TAKES
        state, film = State.read(takes), self._path(self.project.video)
        outputs = [self.output(name) for name in wanted.takes]
        parts = [
            wanted.film_start_s,
            None if film is None else self._sha256(film),
            [
                [to_json(state.steps.get(name)), files_of(self.output(name))]
                for name in wanted.takes
            ],
        ]
        digest = _sha256_of(parts)
        if state.hand_over == digest and not self.overwrite and is_there(self.handed):
            return None
        made = hand_over(
            outputs,
            self.handed,
            film=film,
            film_start_s=wanted.film_start_s,
            overwrite=self.overwrite,
            seen_from=self.folder / HANDED,
        )
        state.hand_over = digest
        state.write(takes)
        return made

    @property
    def handed(self) -> Path:
        """Folder of the hand-over."""
        return self.target / HANDED

    def output(self, name: str) -> Path:
        """Return the output of a step."""
        suffix = next(step.suffix for step in self.project.steps if step.id == name)
        return self.target / TAKES / f"{name}{suffix}"

    def digests(self) -> dict[str, str]:
        """Return the digests of takes, stems and the hand-over, without JSON, by their paths."""
        takes: dict[str, str] = {}
        for step in self.project.steps:
            takes |= files_of(self.output(step.id))
        found = {f"{TAKES}/{name}": sha256 for name, sha256 in takes.items()}
        if self.project.hand_over is not None:
            paths = [path for path in self.handed.rglob("*") if path.is_file()]
            found |= {p.relative_to(self.target).as_posix(): file_sha256(p) for p in paths}
        return {name: sha256 for name, sha256 in found.items() if not name.endswith(".json")}

    def _path(self, name: str | None) -> Path | None:
        return None if name is None else self.folder / name

    def _sha256(self, video: Path) -> str:
        if video not in self._videos:
            self._videos[video] = file_sha256(video)
        return self._videos[video]

    def _check_film(self) -> None:
        """Refuse a film that was cut anew, and scenes past its end, before anything is replaced."""
        film, known = self._path(self.project.video), self.project.video_sha256
        if film is not None and known is not None and self._sha256(film) != known:
            raise UserError(
                f"{shown_name(film)}: has changed since its cuts were found; put the old film "
                f"back, move {FILE} away and have it written again (`film`), or take "
                "`video_sha256` out of it if all cuts are where they were"
            )
        lengths_s: dict[Path, Fraction] = {}
        for step in self.project.steps:
            video, start_s = self._path(self.project.video_of(step)), step.settings.get("start_s")
            if step.do != "generate" or video is None or not isinstance(start_s, int | float):
                continue
            if video not in lengths_s:
                lengths_s[video] = probe(video).duration_s
            if start_s >= lengths_s[video]:
                raise UserError(
                    f"step {step.id!r}: {start_s:g} s is not before the end of "
                    f"{shown_name(video)} at {float(lengths_s[video]):.3f} s",
                    field="start_s",
                )

    def _digest(self, step: Step) -> str:
        """Digest of what decides a step."""
        video = self._path(self.project.video_of(step))
        source = None if step.of is None else self.output(step.of)
        if source is not None and step.do == "mix":
            used: Any = files_of(source)
        else:
            used = None if source is None else file_sha256(source)
        parts = [
            to_json(step),
            self.options.identity().sha256,
            self.options.precision,
            None if video is None else self._sha256(video),
            used,
        ]
        return _sha256_of(parts)

    def _loaded(self) -> TorchPipeline:
        if self._pipeline is None:
            self._pipeline = self.options.load_torch()
        return self._pipeline

    def _make(self, step: Step, output: Path) -> dict[str, Any]:
        make = {"generate": self._generate, "edit": self._edit, "mix": self._mix}[step.do]
        return make(step, output)

    def _generate(self, step: Step, output: Path) -> dict[str, Any]:
        given = {"video": self.project.video, **step.settings, "id": step.id, "seed": step.seed}
        job = read_job(given)
        if job.takes != 1 or job.output is not None:
            raise UserError("a step makes one output, named by its id", field="takes")
        source = self._path(job.video)
        options = options_of(job, OutputOptions(overwrite=True))
        with spanned_request(source, job) as (video, duration_s):
            request = request_of(job, video, duration_s, seed=step.seed)
            (result,) = self._loaded().run(request)
            facts = {"start_s": job.start_s} if job.start_s else {}
            return save(result, output, video=video, options=options, more_facts=facts)

    def _edit(self, step: Step, output: Path) -> dict[str, Any]:
        from omni2sound.generate.edit.files import edit_file

        assert step.of is not None
        given = dict(step.settings)
        ranges = tuple(map(parse_range, _texts(given.pop("ranges", []), step)))
        cues = tuple(map(parse_cue, _texts(given.pop("cues", []), step)))
        given.pop("video", None)
        if "takes" in given:
            raise UserError("a step makes one output, named by its id", field="takes")
        plain = replace(from_json(Edit, {"strength": 0.5, **given}, where=step.id), cues=cues)
        asked = replace(plain, ranges=ranges, seed=step.seed, strength=given.get("strength", 1.0))
        source = open_source(self.output(step.of))
        # Words first: beside a video, an edit needs none.
        asked = asked_as_made(asked, source)
        length_s = Fraction(source.audio.num_samples, source.audio.sample_rate_hz)
        with self._span(step, length_s) as film:
            video = source.path if source.is_video and film is not None else film
            asked = replace(asked, video=video)
            options = check_edit(source, output, asked, OutputOptions(overwrite=True))
            (report,) = edit_file(self._loaded(), source, asked, [output], options)
        return report

    @contextmanager
    def _span(self, step: Step, length_s: Fraction) -> Iterator[Path | None]:
        """Give the file of the part of the video that the output a step is made of sounds for."""
        assert step.of is not None
        video = self._path(self.project.video_of(step))
        source = self.output(step.of)
        start_s = start_of(source, read_sidecar(source) or {})
        if video is None or not start_s:
            yield video
            return
        with spanned(video, start_s=start_s, end_s=start_s + length_s) as span:
            yield span

    def _mix(self, step: Step, output: Path) -> dict[str, Any]:
        assert step.of is not None
        folder, description = open_mix(self.output(step.of))
        given = dict(step.settings)
        changes = from_json(
            dict[str, dict[str, Any]], given.pop("changes", {}), where=f"{step.id}.changes"
        )
        anew = given.pop("anew", None)
        if given:
            raise ConfigError(f"{step.id}: unknown field {sorted(given)[0][:80]!r}")
        mixing = Mixing.read(folder, changed(description, changes))
        film = self._path(self.project.video_of(step))
        if anew is not None:
            mixing = remake(self._loaded(), mixing, str(anew), step.seed, film)
        return save_mix(mixing, output, video=film, options=OutputOptions(overwrite=True))


def _texts(value: Any, step: Step) -> list[str]:
    return from_json(list[str], value, where=step.id)


def _sha256_of(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def repeat(folder: Path, options: PipelineOptions) -> list[str]:
    """Make all steps of a project again in another place; return the files whose bytes differ.

    Raises:
        ConfigError: The description does not hold together.
        UserError: A step, or the hand-over, has not been made yet.
    """
    runner = Runner.open(folder, options)
    for step in runner.project.steps:
        if read_sidecar(runner.output(step.id)) is None:
            raise UserError(f"{step.id}: has not been made yet; run the project first")
    if runner.project.hand_over is not None and not runner.handed.is_dir():
        raise UserError(f"{HANDED}: has not been made yet; run the project first")
    with scratch() as place:
        again = replace(runner, target=place)
        list(again.run())
        again.hand_over()
        return differing(runner, again)


def differing(first: Runner, again: Runner) -> list[str]:
    """Compare takes, stems and hand-overs of one project in two places.

    Returns:
        Paths of files whose bytes differ, or which only one has. JSON is left out: it holds times.
        What only the first has in its hand-over counts as somebody's own.
    """
    old, new = first.digests(), again.digests()
    names = {name for name in (*old, *new) if name in new or not name.startswith(f"{HANDED}/")}
    return sorted(name for name in names if old.get(name) != new.get(name))
