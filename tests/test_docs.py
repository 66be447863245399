"""What the documents promise: commands run, Python runs, links resolve, references are complete.

A fenced ``console`` block is a list of commands. Each line that starts with ``omni2sound`` is
run as a process, in a folder that holds `clip.mp4` (two seconds with sound) and `jobs.jsonl`, and
for a block that names `vggsound.csv` two small corpora; lines of other programs (pip, make) are
not. ``python`` blocks are run the same way. A block is
left alone only under a comment that says why: ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import typer

import omni2sound
from benchmarks.robustness.eight_corpora import write_sound, write_video
from omni2sound import Audio
from omni2sound.cli.main import app
from omni2sound.media.audio import write_audio
from tests.warm.start import warm, warm_scripts

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "omni2sound"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SCRIPTS = Path(sys.executable).parent
EXAMPLES = ROOT / "examples"

_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n+)?^```(?P<kind>console|python)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    document: Path
    line: int
    kind: str
    body: str

    @property
    def commands(self) -> list[list[str]]:
        joined = self.body.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines()]
        return [shlex.split(line, comments=True) for line in lines if line.startswith("omni2sound")]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def _blocks() -> list[Block]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text[: match.start("body")].count("\n")
            block = Block(document, line, match["kind"], match["body"])
            if not match["skip"] and (block.kind == "python" or block.commands):
                found.append(block)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the inputs that the examples name."""
    shutil.copytree(EXAMPLES / "plugins", tmp_path / "examples" / "plugins")
    with av.open(tmp_path / "clip.mp4", "w") as container:
        video = container.add_stream("mpeg4", rate=Fraction(25))
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for index in range(50):
            picture = np.zeros((96, 128, 3), dtype=np.uint8)
            picture[40:56, 2 * index : 2 * index + 16] = 255
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        tone = np.sin(np.arange(32_000) * 0.1).astype(np.float32)[None] / 4
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    jobs = [
        {"id": "bark", "prompt": "a dog barks", "duration_s": 2, "steps": 2},
        {"id": "clip", "video": "clip.mp4", "steps": 2},
    ]
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    (tmp_path / "jobs.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("block", _blocks(), ids=str)
def test_an_example_runs(block: Block, folder: Path) -> None:
    if block.kind == "python":
        commands = [[sys.executable, "-c", block.body]]
    else:
        commands = [[str(SCRIPTS / name), *rest] for name, *rest in block.commands]
    if "vggsound.csv" in block.body:
        _write_corpora(folder)
    environment = os.environ | {"OMNI2SOUND_CACHE": str(folder / "cache")}
    for command in commands:
        done = subprocess.run(
            warm(command), cwd=folder, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"


def _write_corpora(folder: Path) -> None:
    """Two tables as published, and what they name: three videos, and a sound of one of them."""
    names = [f"abcdefghij{k}" for k in range(3)]
    rows = [f"{n},5,bell,{s}\n" for n, s in zip(names, ("train", "train", "test"), strict=True)]
    (folder / "vggsound.csv").write_text("".join(rows))
    (folder / "audiocaps" / "dataset").mkdir(parents=True)
    (folder / "audiocaps" / "dataset" / "train.csv").write_text(
        "audiocap_id,youtube_id,start_time,caption\n"
        f"1,{names[1]},5,a bell rings\n2,zyxwvutsrqp,5,rain falls\n"
    )
    (folder / "videos").mkdir()
    for seed, name in enumerate(names):
        write_video(folder / "videos" / f"{name}_000005.mp4", seed)
    for seed, name in ((1, names[1]), (7, "zyxwvutsrqp")):
        write_sound(folder / "audiocaps" / "audio" / f"{name}_5.wav", seed, 10.0)


def _run_example(folder: Path, *command: str) -> None:
    environment = os.environ | {
        "OMNI2SOUND_CACHE": str(folder / "cache"),
        "PATH": f"{warm_scripts(folder / 'bin')}{os.pathsep}{os.environ['PATH']}",
        "STEPS": "2",
    }
    done = subprocess.run(
        warm(command), cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_examples_run_in_their_order(folder: Path) -> None:
    """In one folder: a recipe of one's own is trained on the features of the one before."""
    python = sys.executable
    for script in sorted(EXAMPLES.glob("0*")):
        steps = ("2",) if script.name == "05_own_recipe.py" else ()
        _run_example(folder, python if script.suffix == ".py" else "sh", str(script), *steps)
    made = ("bell.wav", "barking.mp4", "sounds/dog.wav", "trained.mp4", "own_recipe.wav")
    assert all((folder / name).is_file() for name in (*made, "scored/report.md"))


@pytest.mark.slow
def test_the_notebook_runs(folder: Path) -> None:
    notebook = folder / "omni2sound.ipynb"
    shutil.copy(EXAMPLES / notebook.name, notebook)
    _run_example(folder, str(SCRIPTS / "jupyter-execute"), str(notebook))


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "omni2sound.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_the_gradio_page_is_short_and_takes_sounds_as_files() -> None:
    """As arrays, Gradio 6.31 gives the bits of a 32-bit float WAV as int32."""
    text = (EXAMPLES / "space" / "app.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 80
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    sounds = [call for call in calls if ast.unparse(call.func) == "gr.Audio"]
    assert sounds and all("type='filepath'" in ast.unparse(call) for call in sounds)


def test_the_gradio_page_makes_one_sound_of_a_bounded_length_at_a_time(tmp_path: Path) -> None:
    text = (EXAMPLES / "space" / "app.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports = [x for x in tree.body if isinstance(x, ast.ImportFrom)]
    kept: list[ast.stmt] = [
        x for x in imports if x.module != "omni2sound.generate.edit.edit"
    ]  # which imports torch
    kept += [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name == "mend"]
    given: dict[str, Any] = {"gr": SimpleNamespace(Error=RuntimeError), "MAX_S": 1}
    exec(compile(ast.Module(kept, []), "app.py", "exec"), given)
    for length_s, span in ((2, "0.1-0.4"), (1, "0.5-1.5")):
        silence = np.zeros((1, 8000 * length_s), np.float32)
        sound = tmp_path / f"{length_s}.wav"
        write_audio(sound, Audio(samples_CN=silence, sample_rate_hz=8000))
        with pytest.raises(RuntimeError, match="up to 1 s"):
            next(given["mend"](sound, span, "rain", 1))
    clicks = [x for x in ast.walk(tree) if isinstance(x, ast.Call)]
    clicks = [x for x in clicks if ast.unparse(x.func).endswith(".click")]
    assert [ast.unparse(x.keywords[-1]) for x in clicks] == ["**alone"] * 2
    assert 'alone = {"concurrency_limit": 1, "concurrency_id": "model"}' in text


def test_the_extend_guide_shows_every_plugin_example() -> None:
    text = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
    shown = dict(
        re.findall(r'^```python title="(\S+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    )
    files = {p.relative_to(ROOT).as_posix(): p.read_text() for p in EXAMPLES.glob("plugins/*.py")}
    assert shown == files


def test_examples_are_plain_commands() -> None:
    """No pipes and no substitutions, so that they work in any shell."""
    for block in _blocks():
        for command in block.commands:
            assert not {"|", ">", "<", "&&", ";"} & set(command), f"{block}: {command}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_has_no_long_lines(document: Path) -> None:
    """Tables, code and pictures may be wider."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in text.splitlines():
        assert len(line) <= 120 or line.startswith(("|", "<", "[!", "    ")), line


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_the_main_commands_have_an_example() -> None:
    used = {command[1] for block in _blocks() for command in block.commands}
    assert {"generate", "setup", "doctor", "demo"} <= used


_LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_resolve(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document}: {target} does not exist"


_TODAYS = [d for d in DOCUMENTS if d.parent.name not in {"decisions", "experiments"}]
"""Records quote commands as they were."""


@pytest.mark.parametrize("document", _TODAYS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist_with_their_options_also_where_they_are_not_run(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    whole: Any = typer.main.get_command(app)
    for match in _BLOCK.finditer(text):
        if "has replaced this command" in (match["skip"] or ""):
            continue
        line = text[: match.start("body")].count("\n")
        for argv in Block(document, line, match["kind"], match["body"]).commands:
            command, words = whole, argv[1:]
            if words[0] == "--plugin":
                words = words[2:]
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            assert not hasattr(command, "commands"), f"{document}: {shlex.join(argv)}"
            known = {name for param in command.params for name in param.opts}
            known |= {name for param in command.params for name in param.secondary_opts}
            for option in (w.partition("=")[0] for w in words if w.startswith("--")):
                assert option in known | {"--help"}, f"{document}: {shlex.join(argv)}"


def test_the_reference_names_every_command_and_option() -> None:
    text = _generated("commands")
    for path, command in _commands(typer.main.get_command(app), ()):
        assert f"## `omni2sound {' '.join(path)}`" in text
        section = text.split(f"## `omni2sound {' '.join(path)}`\n")[1].split("\n## ")[0]
        for option in (name for param in command.params for name in param.opts):
            assert option in section or not option.startswith("--"), f"{path}: {option}"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from _commands(command, (*path, name))


def _generated(part: str) -> str:
    command = [sys.executable, str(ROOT / "docs" / "hooks.py"), part]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_reference_has_a_line_for_every_command() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == set(group.commands)


def test_the_api_page_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    for name in omni2sound.__all__:
        assert f"::: omni2sound.{name}\n" in text or f"`omni2sound.{name}`" in text, name


def test_the_tree_says_something_of_every_module() -> None:
    package, described = "", set()
    for line in _generated("tree").splitlines():
        if heading := re.fullmatch(r"### `omni2sound\.?(\w*)`", line):
            package = heading[1]
        elif row := re.fullmatch(r"\| `([\w./]+)` \| (\S.*) \|", line):
            described.add(f"{package}/{row[1]}".lstrip("/"))
    modules = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
    assert {path for path in modules if not path.endswith("__init__.py")} <= described


@pytest.mark.slow
def test_the_site_is_built_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [str(SCRIPTS / "mkdocs"), "build", "--strict", "--site-dir", str(tmp_path)]
    # The theme prints an announcement of its own that holds the word; it is no warning of ours.
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    loaded = re.compile(r"<(?:script|img|audio|video|source|iframe)[^>]* src=[\"']?https?:")
    linked = re.compile(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect|preload)[^>]*https?:")
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not loaded.search(text), page
        assert not linked.search(text), page
