"""A user's own parts by `--plugin`: the examples at work, in workers too, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.robustness.click_corpus import click_store
from omni2sound.bench.compare import choose_system, compare_runs
from omni2sound.bench.metrics import clip_metric
from omni2sound.bench.metrics.clip_metric import (
    ClipMetric,
    ScoredClip,
    clip_metric_scores,
    measure_clip,
)
from omni2sound.bench.run import score_folder
from omni2sound.bench.scoring import evaluate as evaluate_module
from omni2sound.bench.scoring import sounds as sounds_module
from omni2sound.bench.scoring.options import scoring_options
from omni2sound.bench.tracks.track import Track, TrackClip
from omni2sound.errors import ConfigError, UserError
from omni2sound.plugins import PLUGINS_VARIABLE, Registry, load_plugins
from omni2sound.recipes import RECIPES, recipe_named
from omni2sound.train.recipe import Recipe
from tests.bench.conftest import (  # noqa: F401 (fixtures)
    assets,
    scene_track,
    store,
    tonal_assets,
)
from tests.build import video_with_square
from tests.warm.start import warm

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "plugins"


def run(
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own: plugins stay out of this one."""
    command = [sys.executable, "-m", "omni2sound", *map(str, arguments)]
    return subprocess.run(
        command if cold else warm(command),
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("entry", [None, 3, "recipe"])
def test_what_is_no_function_is_not_registered(entry: object) -> None:
    registry: Registry[object] = Registry("recipe", {}, kind=Callable)
    with pytest.raises(UserError, match="recipe 'mine': expected one of type Callable, got"):
        registry.register("mine", entry)
    assert "mine" not in registry


def test_what_has_another_type_is_not_registered() -> None:
    registry: Registry[object] = Registry("importer", {}, kind=Path)
    with pytest.raises(UserError, match="importer 'mine': expected one of type Path, got"):
        registry.register("mine", print)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: None, "recipe 'mine': expected a Recipe, got None"),
        (lambda size: size, "recipe 'mine': TypeError: .*missing 1 required positional"),
    ],
)
def test_a_recipe_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Recipe], reason: str
) -> None:
    monkeypatch.setitem(RECIPES._entries, "mine", make)
    monkeypatch.setitem(RECIPES._plugins, "mine", "my_module")
    with pytest.raises(UserError, match=reason):
        recipe_named("mine")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "folder.py/"])
def test_what_names_no_module_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="no such module; give a module that Python can import"):
        load_plugins([name])


def test_a_folder_is_no_plugin_and_the_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.py").mkdir()
    monkeypatch.setenv(PLUGINS_VARIABLE, str(tmp_path / "folder.py"))
    with pytest.raises(UserError, match=f"of {PLUGINS_VARIABLE}: is a folder; give the path"):
        load_plugins()


def plugin(name: str, *arguments: object) -> str:
    """What a command with an example as plugin prints."""
    done = run("--plugin", EXAMPLES / f"{name}.py", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_silence(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_an_own_importer_makes_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text(
        "file,caption,split\nbell.wav,a bell rings,train\nx.wav,a dog,dev\n", encoding="utf-8"
    )
    (tmp_path / "media").mkdir()
    write_silence(tmp_path / "media" / "bell.wav")
    assert "notes.csv: file, caption, split" in plugin("importer", "data", "import", "list")
    out = tmp_path / "notes.jsonl"
    arguments = ("data", "import", "notes", tmp_path, "--media", tmp_path / "media", "--out", out)
    done = run("--plugin", EXAMPLES / "importer.py", *arguments)
    assert done.returncode == 1  # a row is refused
    assert "notes.csv:3: split: expected train, val or test, got 'dev'" in done.stderr
    clips = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [clip["captions"] for clip in clips if "captions" in clip] == [["a bell rings"]]


OWN_MODEL = """
import sys
from dataclasses import replace
from omni2sound.encoders.registry import VisionPart
from omni2sound.models.registry import AUTOENCODERS, build_autoencoder
from omni2sound.plugins import load_plugins
from tests.build import TINY, tiny_model

load_plugins(sys.argv[2:])
vision = VisionPart(encoder="colour-grid")
vae = AUTOENCODERS.find("dct").config(latent_dim=8)
dit = replace(TINY.dit, conditioner=replace(TINY.dit.conditioner, vision_dim=vision.spec.dim))
model = tiny_model(config=replace(TINY, dit=dit, vision=vision))
config = replace(model.config, autoencoder=vae)
replace(model, config=config, autoencoder=build_autoencoder(vae)).save(sys.argv[1])
"""


OWN_TEXT_MODEL = """
from dataclasses import replace
from omni2sound.encoders.registry import TEXT_ENCODERS, TextPart
from omni2sound.plugins import load_plugins
from tests.build import TINY, tiny_model

load_plugins([{own!r}])
text = TextPart(encoder="letters")
encode = TEXT_ENCODERS["letters"].load("cpu")
alone, both = encode(["rain"]), encode(["rain", "", "a dog barks"])
assert alone.states_BTD.shape == (1, 5, 64) and both.states_BTD.shape == (3, 12, 64)
assert (both.states_BTD[0, :5] == alone.states_BTD[0]).all() and both.mask_BT[1].sum() == 1
assert not both.states_BTD[~both.mask_BT].any()
assert (encode.encode_ids(encode.token_ids(["rain"])).states_BTD == alone.states_BTD).all()
dit = replace(TINY.dit, conditioner=replace(TINY.dit.conditioner, text_dim=text.spec.dim))
tiny_model(config=replace(TINY, dit=dit, text=text)).save({model!r})
"""


@pytest.mark.slow
def test_a_model_with_an_own_encoder_and_an_own_autoencoder_generates(tmp_path: Path) -> None:
    own = [str(EXAMPLES / "encoder.py"), str(EXAMPLES / "autoencoder.py")]
    model, out = tmp_path / "model", tmp_path / "a.wav"
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    subprocess.run(
        warm([sys.executable, "-c", OWN_MODEL, model, *own]),
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert card["parts"]["vision"] == {"encoder": "colour-grid"}
    assert card["parts"]["autoencoder"]["kind"] == "dct"
    clip = video_with_square(tmp_path / "clip.mp4")
    arguments = ("generate", clip, "--model", model, "-o", out, "--device", "cpu")
    done = run("--plugin", own[0], "--plugin", own[1], *arguments)
    assert done.returncode == 0, done.stderr
    with wave.open(str(out)) as file:
        assert file.getnframes() == file.getframerate()  # the clip's second
    done = run("--plugin", own[0], *arguments, "--overwrite")
    assert done.returncode == 2
    assert "card.parts.autoencoder: no autoencoder 'dct'; known: mel-pca, oobleck" in done.stderr


@pytest.mark.slow
def test_an_own_text_encoder_gives_the_states_of_a_model(tmp_path: Path) -> None:
    own, model, out = EXAMPLES / "text_encoder.py", tmp_path / "model", tmp_path / "a.wav"
    code = OWN_TEXT_MODEL.format(own=str(own), model=str(model))
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run(warm([sys.executable, "-c", code]), check=True, env=environment)
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert card["parts"]["text"] == {"encoder": "letters"}
    arguments = ("generate", "--prompt", "Rain, 雨", "--model", model, "-o", out)
    done = run("--plugin", own, *arguments, "--duration", 1, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with wave.open(str(out)) as file:
        assert file.getnframes() == 16000


@pytest.mark.slow
def test_doctor_lists_what_is_registered_and_by_which_plugin(tmp_path: Path) -> None:
    own = [EXAMPLES / f"{name}.py" for name in ("recipe", "importer", "tagger", "metric")]
    flags = [part for path in own for part in ("--plugin", path)]
    done = run(*flags, "doctor", "--json")
    found = {c["name"]: c["found"] for c in json.loads(done.stdout)["checks"]}
    assert found["recipes"] == f"tiny, embedded, embedded-v4, paper, quick ({own[0]})"
    assert f"notes ({own[1]})" in found["importers"] and "clotho, " in found["importers"]
    assert found["taggers"] == f"yamnet, tagger, aisfx, flatness ({own[2]})"
    assert found["metrics"] == f"centroid error ({own[3]})"
    for point in ("text encoders", "picture encoders", "autoencoders"):
        assert found[point]


@pytest.mark.slow
def test_help_and_doctor_report_a_plugin_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_RECIPE, encoding="utf-8")
    gone = tmp_path / "gone.py"
    stale = {PLUGINS_VARIABLE: os.pathsep.join(map(str, (gone, tmp_path / "own.py")))}
    done = run("generate", "--help", env=stale)
    assert done.returncode == 0 and "--prompt" in done.stdout
    assert f"plugin '{gone}' of {PLUGINS_VARIABLE}: no such file" in done.stderr
    done = run("doctor", "--json", env=stale)
    report = json.loads(done.stdout)
    (plugins,) = (check for check in report["checks"] if check["name"] == "plugins")
    assert done.returncode == 1 and not report["ok"] and not plugins["ok"]
    assert plugins["found"] == f"plugin '{gone}' of {PLUGINS_VARIABLE}: no such file"
    assert plugins["fix"] == f"unset {PLUGINS_VARIABLE}"
    (recipes,) = (check for check in report["checks"] if check["name"] == "recipes")
    assert f"own ({tmp_path / 'own.py'})" in recipes["found"]  # the other one works all the same
    done = run("data", "import", "list", env=stale)
    assert done.returncode == 2 and done.stdout == "" and "no such file" in done.stderr


@pytest.mark.slow
def test_an_own_recipe_trains(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    arguments = ("--data", tmp_path / "features", "--out", tmp_path / "run", "--device", "cpu")
    plugin("recipe", "train", "quick", *arguments, "--max-steps", 1)
    card = json.loads((tmp_path / "run" / "model" / "card.json").read_text(encoding="utf-8"))
    assert card["name"] == "quick" and card["parts"]["dit"]["width"] == 64


@pytest.mark.slow
def test_an_own_tagger_and_an_own_metric_score_in_two_workers(
    scene_track: Track,  # noqa: F811
    tmp_path: Path,
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for clip in scene_track.clips:
        shutil.copyfile(scene_track.path(clip.audio), theirs / f"{clip.clip_id}.wav")
    own = [part for name in ("tagger", "metric") for part in ("--plugin", EXAMPLES / f"{name}.py")]
    folders = (scene_track.folder, theirs, "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    arguments = (*folders, "--task", "V2A", "--workers", 2, "--taggers", "flatness")
    done = run(*own, "-q", "bench", "score", *arguments)
    assert done.returncode == 0, done.stderr
    for title in ("### main: flatness-8s-v1", "### main: stage-v1", "### offscreen: brightness-v1"):
        assert title in done.stdout
    assert "| system | clips | centroid error (Hz) ↓ |" in done.stdout
    assert "| theirs V2A | 4 | 0 [0, 0] |" in done.stdout  # the real sounds themselves
    rows = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))["rows"]
    error = {
        row["system"]: row["scores"][0]["estimate"]
        for row in rows
        if row["protocol"] == "brightness-v1" and row["part"] == "main"
    }
    assert "silence" not in error  # the metric is None for silence
    wrong = error["shuffled"]
    assert 0 <= wrong["low"] <= wrong["value"] <= wrong["high"] and wrong["value"] > 0
    done = run("bench", "score", *arguments)
    assert done.returncode == 2
    assert "no tagger 'flatness'; known: yamnet, tagger, aisfx; plugins add others" in done.stderr


@pytest.mark.slow
def test_an_own_tagger_is_set_beside_the_others(store: Path) -> None:  # noqa: F811
    arguments = ("bench", "taggers", "--corpus", store, "--taggers", "yamnet,flatness", "--json")
    rates = json.loads(plugin("tagger", *arguments))
    assert list(rates) == ["yamnet", "flatness"] and rates["flatness"]


@pytest.mark.slow
def test_a_metric_sees_the_files_and_is_compared_in_pairs(
    scene_track: Track,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[ScoredClip] = []

    def size_of_video(sound: object, real: object, clip: ScoredClip) -> float:
        seen.append(clip)
        assert clip.video is not None
        return float(clip.video.stat().st_size + clip.sound.stat().st_size)

    def build() -> Registry[ClipMetric]:
        metric = ClipMetric(protocol="size-v1", direction="lower", measure=size_of_video)
        return Registry("metric", {"size": metric})

    for module in (clip_metric, sounds_module, evaluate_module):
        monkeypatch.setattr(module, "CLIP_METRICS", build())
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for clip in scene_track.clips:
        data = scene_track.path(clip.audio).read_bytes()
        (theirs / f"{clip.clip_id}.wav").write_bytes(data)
    options = scoring_options(["yamnet"], cache_folder=tmp_path / "cache", num_workers=1)
    scored = score_folder(scene_track.folder, theirs, "V2A", tmp_path / "out", options=options)
    assert {clip.video for clip in seen} == {
        scene_track.path(c.video) for c in scene_track.clips if c.video is not None
    }
    assert {clip.sound for clip in seen} >= set(theirs.iterdir())
    records = [r for r in scored.evaluation.clips if r.system == "theirs"]
    assert records and all(r.metrics["size"] > 0 for r in records)
    theirs_, silence = choose_system(scored, "V2A"), choose_system(scored, None, "silence")
    found = compare_runs(scored, theirs_, scored, silence, options).differences
    (difference,) = (d for d in found if d.protocol == "size-v1" and d.part == "main")
    assert (difference.name, difference.direction) == ("size", "lower")
    monkeypatch.setattr(clip_metric, "CLIP_METRICS", Registry("metric", {}))
    found = compare_runs(scored, theirs_, scored, silence, options).differences
    assert all(d.protocol != "size-v1" for d in found)
    assert "their plugins are not loaded: size" in caplog.text


def test_a_metric_under_a_built_in_protocol_is_refused() -> None:
    for protocol in ("stage-v1", "copies-v1", "avbench-8s-v1", "flatness-8s-v1"):
        with pytest.raises(UserError, match="is built in"):
            ClipMetric(protocol=protocol, direction="lower", measure=lambda sound, real, clip: 0.0)


def test_a_metric_gives_a_finite_number_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TrackClip(clip_id="a", part="main", caption="", duration_s=1.0, audio="own:a.wav")
    clip = ScoredClip(clip=entry, sound=Path("b.wav"), real=Path("a.wav"), video=None)
    values: dict[str, float | None] = {"five": 5, "none": None, "nan": float("nan")}
    metrics = {
        name: ClipMetric(protocol="p-v1", direction="lower", measure=lambda s, r, c, v=v: v)
        for name, v in values.items()
    }
    monkeypatch.setattr(clip_metric, "CLIP_METRICS", Registry("metric", metrics))
    silence = np.zeros(4, np.float32)
    found = [measure_clip(name, lambda rate: (silence, silence), clip) for name in ("five", "none")]
    assert found == [5.0, None]
    with pytest.raises(UserError, match="metric 'nan', clip a: expected a number, got nan"):
        measure_clip("nan", lambda rate: (silence, silence), clip)
    ((score,),) = clip_metric_scores([{"five": 5.0}, {}, {"five": 7.0}])
    assert (score.name, score.protocol, score.estimate.value) == ("five", "p-v1", 6.0)
    assert score.estimate.num_clips == 2


OWN_RECIPE = """
from omni2sound.recipes import RECIPES
RECIPES.register("own", RECIPES["tiny"])
"""


def test_a_module_of_the_current_folder_does(tmp_path: Path) -> None:
    (tmp_path / "own_importers.py").write_text("print('loaded')\n", encoding="utf-8")
    done = run("--plugin", "own_importers", "data", "import", "list", cwd=tmp_path, cold=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loaded\n")


@pytest.mark.slow
def test_the_environment_variable_alone_and_a_module_of_the_current_folder_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_recipes.py").write_text(OWN_RECIPE, encoding="utf-8")
    look_up = "from omni2sound.recipes import recipe_named; print(recipe_named('own').name)"
    for name in ("own_recipes", str(tmp_path / "own_recipes.py")):
        done = subprocess.run(
            warm([sys.executable, "-c", look_up]),
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, PLUGINS_VARIABLE: name},
        )
        assert done.stdout == "tiny\n"
    done = run("--plugin", "own_recipes", "data", "import", "list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file"),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'"),
        ("\n1 / 0", "ZeroDivisionError: division by zero (PATH:2)"),
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "SystemExit: 0 (PATH:1)"),
        (
            "from omni2sound.recipes import RECIPES\nRECIPES.register('tiny', None)",
            "recipe 'tiny' exists already; choose another name",
        ),
    ],
)
def test_a_plugin_that_fails_ends_in_one_line(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "failing.py"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = run("--plugin", path, "data", "import", "list", cold=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"omni2sound: plugin '{path}': ")
    assert done.stderr.count("\n") == 1
    assert reason.replace("PATH", str(path)) in done.stderr


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    for name in ("nothing_of_the_kind", "nothing_of_the_kind.part"):
        done = run("--plugin", name, "data", "import", "list", cold=True)
        assert done.returncode == 2 and "no such module; give a module that" in done.stderr
    gone = {PLUGINS_VARIABLE: str(tmp_path / "gone.py")}
    done = run("data", "import", "list", env=gone, cold=True)
    assert done.returncode == 2 and "gone.py' of OMNI2SOUND_PLUGINS: no such file" in done.stderr


def test_a_registry_refuses_taken_and_odd_names_and_lists_the_known() -> None:
    registry = Registry("thing", {"a": 1, "b": 2})
    registry.register("c", 3)
    assert registry.find("c") == 3 and list(registry) == ["a", "b", "c"] and len(registry) == 3
    with pytest.raises(UserError, match="thing 'a' exists already"):
        registry.register("a", 4)
    with pytest.raises(UserError, match=r"thing 'a\+b': expected letters"):
        registry.register("a+b", 4)
    with pytest.raises(ConfigError, match="no thing 'x'; known: a, b, c"):
        registry.find("x")


WORKER_PLUGIN = """
import os
from omni2sound.recipes import RECIPES
RECIPES.register(f"of-{os.getpid()}", RECIPES["tiny"])
class Job(int): pass
"""


def own_recipe_in(job: int) -> tuple[int, list[str]]:
    from omni2sound.recipes import RECIPES

    return os.getpid(), [name for name in RECIPES if name.startswith("of-")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_import_plugins_before_their_first_job(tmp_path: Path, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    (tmp_path / "worker_plugin.py").write_text(WORKER_PLUGIN, encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from omni2sound.plugins import load_plugins\n"
        "from omni2sound.data.workers import Workers\n"
        "from tests.test_plugins import own_recipe_in\n"
        "if __name__ == '__main__':\n"
        f"    load_plugins([{str(tmp_path / 'worker_plugin.py')!r}])\n"
        "    Job = next(m for n, m in sys.modules.items() if 'worker_plugin' in n).Job\n"
        "    jobs = [Job(i) for i in range(6)]\n"
        f"    done = list(Workers(engine={engine!r}, count=2).map(own_recipe_in, jobs))\n"
        "    assert len(done) == 6\n"
        "    assert all(names == [f'of-{pid}'] for pid, names in done), done\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        warm([sys.executable, script]),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_path_that_workers_would_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"a{os.pathsep}b.py"
    path.write_text("")
    with pytest.raises(UserError, match="which separates plugins"):
        load_plugins([str(path)])
