"""Nodes for ComfyUI with a double of its API: what they take and give, seeds, interruption."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from omni2sound import Audio, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from tests.build import tiny_model_folder, video_with_square
from tests.integrations import comfy_double

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
ASKED = {"prompt": "rain", "cues": "", "steps": 2, "guidance": 0, "seed": 7}
GENERATE = {"negative_prompt": "", "duration": 0.4, "takes": 1}
NAME = "comfyui_omni2sound"


class Comfy(SimpleNamespace):
    """The nodes by name, ComfyUI's folders, and what the user sees and does."""

    root: Path
    steps: list[tuple[int, int]]
    stop_at: list[int]
    nodes: ModuleType
    model: Any


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    root = tmp_path_factory.mktemp("comfy")
    tiny_model_folder(root / "models" / "omni2sound" / "tiny")
    comfy = Comfy(root=root, steps=[], stop_at=[])
    before = dict(sys.modules)
    sys.modules |= comfy_double.modules(root, comfy.steps, comfy.stop_at)
    package = comfy_double.load(NODES, NAME)
    found = asyncio.run(asyncio.run(package.comfy_entrypoint()).get_node_list())
    comfy.nodes = sys.modules[f"{NAME}.nodes"]
    comfy.by_id = {node.define_schema().node_id: node for node in found}
    (comfy.model,) = comfy.by_id["Omni2SoundLoadModel"].execute("tiny", "auto", False).args
    yield comfy
    for name in set(sys.modules) - set(before):
        if name.startswith(("comfy", "folder_paths")):
            del sys.modules[name]


@pytest.fixture
def comfy(loaded: Comfy) -> Comfy:
    loaded.steps.clear()
    loaded.stop_at.clear()
    return loaded


def run(comfy: Comfy, name: str, **given: Any) -> Any:
    made = comfy.by_id[f"Omni2Sound{name}"].execute(**given)
    return made.args or made.ui


def test_inputs_and_outputs_have_names_of_their_own(comfy: Comfy) -> None:
    for node in comfy.by_id.values():
        schema = node.define_schema()
        names = [port.id for port in (*schema.inputs, *schema.outputs)]
        assert len(set(names)) == len(names)  # ComfyUI refuses others
    models = comfy.by_id["Omni2SoundLoadModel"].define_schema().inputs[0]
    assert models.settings["options"] == ["embedded", "tiny"]


def test_workflows_ask_for_inputs_that_nodes_have(comfy: Comfy) -> None:
    graphs = json.loads((NODES / "workflow_api.json").read_text(encoding="utf-8"))
    used = set()
    for node in graphs.values():
        if (kind := node["class_type"]) in comfy.by_id:
            used.add(kind)
            has = {i.id: i for i in comfy.by_id[kind].define_schema().inputs}
            needed = {name for name, i in has.items() if not i.settings.get("optional")}
            assert needed <= set(node["inputs"]) <= set(has), kind
    assert used == set(comfy.by_id)
    shown = json.loads((NODES / "example_workflows" / "omni2sound.json").read_text("utf-8"))
    assert {n["type"] for n in shown["nodes"]} == {n["class_type"] for n in graphs.values()}


def test_a_seed_gives_the_sound_of_the_pipeline(comfy: Comfy) -> None:
    given = ASKED | GENERATE | {"takes": 2}
    audio, report = run(comfy, "Generate", model=comfy.model, **given)
    for number, seed in enumerate((7, 8)):
        made = comfy.model(prompt="rain", duration_s=0.4, num_inference_steps=2, seed=seed)
        np.testing.assert_array_equal(audio["waveform"][number].numpy(), made.audio.samples_CN)
    assert [facts["seed"] for facts in json.loads(report)] == [7, 8]
    assert comfy.steps[-1] == (4, 4)


@pytest.mark.slow
def test_frames_are_as_their_video(comfy: Comfy) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    images = torch.from_numpy(frames).float() / 255
    with_alpha = torch.cat([images, torch.zeros(6, 32, 48, 1)], dim=-1)
    given = ASKED | GENERATE | {"duration": 0}
    audio, _ = run(comfy, "Generate", model=comfy.model, images=with_alpha, fps=12, **given)
    made = comfy.model(frames, "rain", fps=12, num_inference_steps=2, seed=7)
    np.testing.assert_array_equal(audio["waveform"][0].numpy(), made.audio.samples_CN)


def test_a_part_of_a_video_is_not_taken_for_all_of_it(comfy: Comfy, tmp_path: Path) -> None:
    whole = video_with_square(tmp_path / "whole.mp4", duration_s=1.2)
    part = video_with_square(tmp_path / "part.mp4", duration_s=0.4)

    def source(**more: Any) -> SimpleNamespace:
        return SimpleNamespace(
            get_stream_source=lambda: str(whole),
            get_dimensions=lambda: (64, 48),
            save_to=lambda path: shutil.copy(part, path),
            **more,
        )

    media = sys.modules[f"{NAME}.media"]
    for cut in (
        source(get_duration=lambda: 0.4),
        source(get_duration=lambda: 1.2, get_active_trim_window=lambda: (0.1, 0.4)),
    ):
        with media.video_file(cut, None, 24) as path:
            assert float(probe(path).duration_s) == pytest.approx(0.4)
    in_memory = source(get_duration=lambda: 1.2)
    in_memory.get_stream_source = lambda: io.BytesIO(whole.read_bytes())
    with media.video_file(in_memory, None, 24) as path:
        assert path.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="connect one"), media.video_file(1, torch.zeros(1), 24):
        pass


def test_an_interrupted_node_stops_at_the_step(comfy: Comfy) -> None:
    comfy.stop_at.append(1)
    with pytest.raises(comfy_double.Interrupted):
        run(comfy, "Generate", model=comfy.model, **(ASKED | GENERATE | {"steps": 8}))
    assert comfy.steps == [(1, 8)]


def test_errors_name_inputs(comfy: Comfy) -> None:
    with pytest.raises(UserError, match=r"^cues: expected"):
        run(comfy, "Generate", model=comfy.model, **(ASKED | GENERATE | {"cues": "soon: rain"}))
    with pytest.raises(UserError, match="give a video, a prompt"):
        run(comfy, "Generate", model=comfy.model, **(ASKED | GENERATE | {"prompt": " "}))


def test_an_edit_leaves_the_rest_of_each_sound(comfy: Comfy) -> None:
    noise = 0.05 * torch.randn((2, 2, 44_100), generator=torch.Generator().manual_seed(0))
    given = {"waveform": noise, "sample_rate": 44_100}
    (audio,) = run(
        comfy, "Edit", model=comfy.model, audio=given, ranges="0.4-0.6", strength=1, **ASKED
    )
    made = audio["waveform"]
    assert made.shape == noise.shape
    torch.testing.assert_close(made[..., :15_000], noise[..., :15_000], rtol=0, atol=0)
    assert (made[..., 20_000:24_000] != noise[..., 20_000:24_000]).any()


def test_stems_sum_to_the_mix_and_are_saved_by_name(comfy: Comfy, tmp_path: Path) -> None:
    given = ASKED | {"negative_prompt": "", "duration": 0.4, "cues": "0.1-0.3: a dog barks"}
    mix, stems, names, _ = run(comfy, "Stems", model=comfy.model, **given)
    assert len(stems) == 2 and "rest" in names
    torch.testing.assert_close(
        sum(stem["waveform"] for stem in stems), mix["waveform"], rtol=0, atol=0
    )
    settings = {"bits": "24", "sample_rate": "48000", "loudness": "as given"}
    saved = run(comfy, "Save", audio=mix, filename_prefix="audio/mix", format="wav", **settings)
    assert saved == [("mix_00001_.wav", "audio", "output")]
    written = read_audio(comfy.root / "output" / "audio" / "mix_00001_.wav")
    assert (written.sample_rate_hz, written.num_samples) == (48_000, 19_200)


def test_saved_files_say_how_they_were_made(
    comfy: Comfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = comfy.by_id["Omni2SoundSave"]
    hidden = SimpleNamespace(prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})
    monkeypatch.setattr(node, "hidden", hidden)
    tone = np.sin(np.arange(8000, dtype=np.float32) / 9)[None] / 2
    audio = sys.modules[f"{NAME}.media"].audio_of([Audio(samples_CN=tone, sample_rate_hz=16_000)])
    video = video_with_square(tmp_path / "clip.mp4", duration_s=0.5)
    source = SimpleNamespace(
        get_stream_source=lambda: str(video),
        get_duration=lambda: float(probe(video).duration_s),
        get_dimensions=lambda: (64, 48),
    )
    import av

    for suffix, tag in (("flac", "workflow"), ("wav", "comment"), ("mp4", "workflow")):
        saved = run(
            comfy, "Save", audio=audio, filename_prefix="x", format=suffix, bits="16",
            sample_rate="as given", loudness="podcast", video=source,
        )  # fmt: skip
        with av.open(str(comfy.root / "output" / saved[0][0])) as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
            assert json.loads(tags[tag]) in ({"1": {}}, {"nodes": []})
    with pytest.raises(UserError, match=r"^video: "):
        run(
            comfy, "Save", audio=audio, filename_prefix="x", format="mp4", bits="16",
            sample_rate="as given", loudness="as given",
        )  # fmt: skip


def test_bits_that_a_format_has_not_are_the_most_that_it_has(
    comfy: Comfy, caplog: pytest.LogCaptureFixture
) -> None:
    said = []
    for suffix in ("wav", "flac", "mov", "mp3"):
        caplog.clear()
        said.append((suffix, comfy.nodes._bits("32", f".{suffix}"), len(caplog.messages)))
    assert said == [("wav", 32, 0), ("flac", 24, 1), ("mov", 32, 0), ("mp3", None, 0)]


def test_a_frame_rate_is_the_one_that_people_mean(comfy: Comfy) -> None:
    exact_fps = sys.modules[f"{NAME}.media"].exact_fps
    for whole, shown in ((24, (23.976, 23.98)), (30, (29.97, 29.9700299)), (60, (59.94,))):
        assert {exact_fps(fps) for fps in shown} == {Fraction(whole * 1000, 1001)}
    for fps in (1, 12.5, 23.5, 24, 25, 30, 47.9, 60, 120):
        assert exact_fps(fps) == fps
    inputs = [i for n in comfy.by_id.values() for i in n.define_schema().inputs if i.id == "fps"]
    assert len(inputs) == 3
    for asked in inputs:
        assert asked.settings["step"] <= 0.001 and asked.settings["round"] is False


def test_install_steps_bring_torch() -> None:
    """The base package has none, and the nodes and the page load with engine="torch"."""
    project = tomllib.loads((NODES / "pyproject.toml").read_text(encoding="utf-8"))
    assert "omni2sound[torch]>=0.1" in project["project"]["dependencies"]
    space = NODES.parents[1] / "examples" / "space"
    for file in (NODES / "requirements.txt", space / "requirements.txt"):
        assert any(x.startswith("omni2sound[torch]") for x in file.read_text("utf-8").splitlines())
    assert 'pip install "PATH/TO/omni2sound[torch]"' in (NODES / "README.md").read_text("utf-8")
