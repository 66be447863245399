"""Running a project: what is done stays, what changed is made again, and all of it can be repeated.

In:   a folder with project.json, its film beside it.
Out:  takes/ID.wav with sidecars, takes/steps.json, hand-over/.

A step is done if its settings, its inputs' bytes and the model are those of its last run and its
output is whole. `repeat` makes all steps again elsewhere and compares bytes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omni2sound.config import from_json, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import file_sha256, write_json
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import parse_range
from omni2sound.generate.edit.source import asked_as_made, check_edit, open_source
from omni2sound.generate.hand_over.folder import HandOver, hand_over
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.output import OutputOptions, is_whole, read_sidecar, save
from omni2sound.generate.project.description import Project, Step, read_project
from omni2sound.generate.stems.mix import changed, open_mix
from omni2sound.generate.stems.remix import Mixing, remake, save_mix
from omni2sound.generate.studio.job import Job
from omni2sound.generate.studio.request import options_of, request_of, spanned_request
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import parse_cue
from omni2sound.readers import as_object, read_json

TAKES, STATE, HANDED = "takes", "steps.json", "hand-over"


@dataclass(slots=True)
class Runner:
    """Runs the steps of one project.

    Attributes:
        folder: The project.
        project: Its description.
        options: Model and device.
        target: Where `takes` lies. Default: the project.
    """

    folder: Path
    project: Project
    options: PipelineOptions
    target: Path
    _pipeline: TorchPipeline | None = field(default=None)

    @classmethod
    def open(cls, folder: Path, options: PipelineOptions) -> Runner:
        """Read a project.

        Raises:
            ConfigError: Its description does not hold together.
            UserError: A step is impossible.
        """
        return cls(folder=folder, project=read_project(folder), options=options, target=folder)

    def run(self) -> Iterator[tuple[Step, dict[str, Any], bool]]:
        """Make what is not done; yields steps, what their sidecars say, and whether they were done.

        Raises:
            MediaError: A file can't be read.
            UserError: A setting is out of range.
        """
        takes = self.target / TAKES
        takes.mkdir(exist_ok=True)
        state = self._state()
        for step in self.project.steps:
            digest = self._digest(step)
            made = read_sidecar(self.output(step.id))
            if made is not None and state.get(step.id) == digest and self._is_whole(step, made):
                yield step, made, True
                continue
            try:
                report = self._make(step)
            except UserError as error:
                raise UserError(f"step {step.id!r}: {error}") from error
            state[step.id] = digest
            write_json(takes / STATE, state)
            yield step, report, False

    def hand_over(self) -> HandOver | None:
        """Write the hand-over, if the project has one.

        Raises:
            MissingPartError: OpenTimelineIO is not installed.
        """
        wanted = self.project.hand_over
        if wanted is None:
            return None
        return hand_over(
            [self.output(name) for name in wanted.takes],
            self.target / HANDED,
            film=self._video(),
            film_start_s=wanted.film_start_s,
        )

    def output(self, name: str) -> Path:
        """Return the output of a step."""
        suffix = next(step.suffix for step in self.project.steps if step.id == name)
        return self.target / TAKES / f"{name}{suffix}"

    def _state(self) -> dict[str, Any]:
        path = self.target / TAKES / STATE
        return as_object(read_json(path), path) if path.is_file() else {}

    def _is_whole(self, step: Step, made: dict[str, Any]) -> bool:
        return is_whole(self.output(step.id), made)

    def _video(self) -> Path | None:
        return None if self.project.video is None else self.folder / self.project.video

    def _digest(self, step: Step) -> str:
        """Digest of what decides a step."""
        video = self._video()
        parts = [
            to_json(step),
            self.options.identity().sha256,
            self.options.precision,
            None if video is None else file_sha256(video),
            None if step.of is None else file_sha256(self.output(step.of)),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _loaded(self) -> TorchPipeline:
        if self._pipeline is None:
            self._pipeline = self.options.load_torch()
        return self._pipeline

    def _make(self, step: Step) -> dict[str, Any]:
        make = {"generate": self._generate, "edit": self._edit, "mix": self._mix}[step.do]
        return make(step, self.output(step.id))

    def _generate(self, step: Step, output: Path) -> dict[str, Any]:
        given = {"video": self.project.video, **step.settings, "id": step.id, "seed": step.seed}
        job = from_json(Job, given, where=step.id)
        if job.takes != 1 or job.output is not None:
            raise UserError("a step makes one output, named by its id", field="takes")
        source = None if job.video is None else self.folder / job.video
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
        if "video" in given:
            raise UserError("follows the film of the project; leave it out", field="video")
        plain = replace(from_json(Edit, {"strength": 0.5, **given}, where=step.id), cues=cues)
        asked = replace(
            plain, ranges=ranges, seed=step.seed, strength=given.get("strength", 1.0), takes=1
        )
        source = open_source(self.output(step.of))
        asked = asked_as_made(asked, source)
        if asked.prompt is None and not asked.cues:
            asked = replace(asked, video=self._video())
        options = check_edit(source, output, asked, OutputOptions(overwrite=True))
        (report,) = edit_file(self._loaded(), source, asked, [output], options)
        return report

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
        if anew is not None:
            mixing = remake(self._loaded(), mixing, str(anew), step.seed, self._video())
        options = OutputOptions(overwrite=True)
        return save_mix(mixing, output, video=self._video(), options=options)


def _texts(value: Any, step: Step) -> list[str]:
    return from_json(list[str], value, where=step.id)


def repeat(folder: Path, options: PipelineOptions) -> list[str]:
    """Make all steps of a project again in another place; return those whose bytes differ.

    Raises:
        ConfigError: The description does not hold together.
        UserError: A step has not been made yet.
    """
    runner = Runner.open(folder, options)
    first = {step.id: read_sidecar(runner.output(step.id)) for step in runner.project.steps}
    if missing := [name for name, made in first.items() if made is None]:
        raise UserError(f"{missing[0]}: has not been made yet; run the project first")
    with tempfile.TemporaryDirectory(prefix="omni2sound-") as place:
        again = replace(runner, target=Path(place))
        return [
            step.id
            for step, report, _ in again.run()
            if report["output_sha256"] != (first[step.id] or {})["output_sha256"]
        ]
