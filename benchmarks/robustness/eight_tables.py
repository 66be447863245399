"""From eight published tables to a trained model, each step one command; killed twice, the same?

    python benchmarks/robustness/eight_tables.py

Writes small tables in the formats of eight corpora, with odd rows (columns missing, quotes that
never close, labels of no class, rows without media), and their media: videos and sounds of 4 to
30 s. One clip is in two corpora, one is test in one and training in another. Then, as a user would:
`data import`, `data check --merge --clean`, `data features`, `data verify`, `train`, `generate`.
The model is `paper` at a thousandth of its size (`tiny_paper.py`: Oobleck, Flan-T5 and CLIP with
random weights; the sync encoder is the embedded kind, as Synchformer's file has one size only).
Each stage draws from other stores.

`train` runs on two processes (`torchrun`, gloo, FSDP2), once undisturbed, and once killed twice
(SIGKILL, one rank, then all processes) and resumed. Compared are every file of the model, and loss
and gradient norm of every line of the log. Prints a line for each command; exit code 1 if a
command fails, a count is not the expected one, or anything differs. Needs Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from eight_corpora import CORPORA, ODD_ROWS, make_corpora
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from omni2sound.config import to_json
from omni2sound.encoders.registry import TextPart
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.t5 import build_t5
from omni2sound.models.oobleck import Oobleck
from omni2sound.weights import save_model

HERE = Path(__file__).parent
PLUGIN = HERE / "tiny_paper.py"
SCRIPTS = Path(sys.executable).parent
SOURCES: tuple[list[dict[str, Any]], ...] = (
    [{"store": name} for name in ("audioset", "wavcaps", "fsd50k", "fma", "msd")],
    [{"store": "vggsound", "weight": 3}, {"store": "audiocaps", "tasks": ["T2A"]}],
    [{"store": "vggsound"}, {"store": "clotho", "tasks": ["T2A"], "weight": 2}],
)
"""What each stage draws from."""
LIMIT_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="folder for all files (a temporary one)")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        raise SystemExit(not whole_way(given.keep))
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(not whole_way(Path(folder)))


@dataclass
class Commands:
    """Runs commands in a folder, and prints a line for each."""

    folder: Path
    fine: bool = True
    environment: dict[str, str] = field(default_factory=lambda: {"OMP_NUM_THREADS": "1"})

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> None:
        began = time.perf_counter()
        done = subprocess.run(
            command(*words),
            cwd=self.folder,
            env=self.environment | dict(os.environ),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        self.tell(words, done.returncode, time.perf_counter() - began)
        if done.returncode not in codes:
            raise SystemExit(f"{done.stdout}{done.stderr}")

    def tell(self, words: tuple[str, ...], code: object, seconds: float) -> None:
        shown = " ".join(words)
        print(f"{seconds:5.1f} s  {code!s:>4}  {shown if len(shown) < 90 else shown[:87] + '...'}")

    def check(self, what: str, found: object, expected: object) -> None:
        same = found == expected
        self.fine &= same
        print(f"         {what}: {found}" + ("" if same else f", EXPECTED {expected}"))


def command(*words: str) -> list[str]:
    return [str(SCRIPTS / "omni2sound"), "--plugin", str(PLUGIN), *words]


def whole_way(folder: Path) -> bool:
    make_corpora(folder)
    make_components(folder)
    do = Commands(folder)
    print("seconds, exit code (1: some rows were reported), command")
    for name in CORPORA:
        at = (f"{name}/published", "--media", f"{name}/media", "-o", f"{name}.jsonl")
        do.run("data", "import", name, *at, codes=(1,))
        report = json.loads((folder / f"{name}.report.json").read_text())
        found = len(report["problems"]), len(report["missing"])
        do.check("odd rows reported, without media", found, ODD_ROWS[name])
    manifests = [f"{name}.jsonl" for name in CORPORA]
    do.run("data", "check", *manifests, "--merge", "--clean", "clean", codes=(1,))
    clean = {n: (folder / "clean" / f"{n}.jsonl").read_text().splitlines() for n in CORPORA}
    captions = [json.loads(line).get("captions") for line in clean["vggsound"]]
    do.check("clips of vggsound that got captions of audiocaps", sum(map(bool, captions)), 1)
    encoders = ("--parts", "parts", "--encoders", "published")
    for name in CORPORA:
        to = ("--out", f"features/{name}", "--workers", "1")
        do.run("data", "features", f"clean/{name}.jsonl", *to, *encoders)
    held_out = ("--split", "test", "--out", "features/held-out", "--workers", "1")
    do.run("data", "features", "clean/vggsound.jsonl", *held_out, *encoders)
    do.run("data", "verify", *(f"features/{name}" for name in (*CORPORA, "held-out")))
    undisturbed = train(do, "undisturbed")
    killed = train(do, "killed", kills=(("one rank", 14), ("all processes", 34)))
    do.check("files of the two models are equal", killed[0] == undisturbed[0], True)
    do.check("lines of the two logs are equal", killed[1] == undisturbed[1], True)
    print(f"         {len(undisturbed[0])} files, {len(undisturbed[1])} lines of losses")
    stages = {line["stage"] for line in undisturbed[1]}
    do.check("stages in the log", len(stages), 3)
    prompt = ("--prompt", "a low tone", "--duration", "2", "-o", "sound.wav")
    do.run("generate", *prompt, "--model", "runs/killed/model", "--encoders", "published")
    return do.fine


def make_components(folder: Path) -> None:
    """Write `parts`, whose card names the encoders, and `published` with a small Flan-T5."""
    from tiny_paper import OOBLECK, SYNC_DIM

    torch.manual_seed(0)
    sync = SyncConfig(frame_px=32, channels=(4, 8), feature_dim=SYNC_DIM)
    save_model(
        folder / "parts",
        name="parts",
        parts={
            "autoencoder": to_json(OOBLECK),
            "sync": to_json(sync),
            "text": to_json(TextPart(encoder="flan-t5-base")),
            "vision": {"encoder": "tiny-clip"},
        },
        tensors={
            "autoencoder": Oobleck(OOBLECK).state_dict(),
            "sync": SyncEncoder(sync).state_dict(),
        },
        defaults={},
        training={},
    )
    config = {
        "d_model": 768,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 100,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    }
    t5 = folder / "published" / "flan-t5-base"
    t5.mkdir(parents=True)
    weights = {k: v.clone() for k, v in build_t5(config).state_dict().items()}
    save_file(weights, t5 / "model.safetensors")
    (t5 / "config.json").write_text(json.dumps(config))
    letters = ["<pad>", "</s>", *map(chr, range(32, 127))]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="</s>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(t5 / "tokenizer.json"))


def train(
    do: Commands, name: str, kills: tuple[tuple[str, int], ...] = ()
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Train on two processes; digests of the model's files, and the log without times."""
    words = (
        *("train", "tiny-paper", "--out", f"runs/{name}", "--resume", "--save-every", "5"),
        *(f"--data=features/{corpus}" for corpus in CORPORA),
        *("--validation", "features/held-out", "--parts", "parts", "--encoders", "published"),
        *(f"--set=stages.{stage}.data={json.dumps(some)}" for stage, some in enumerate(SOURCES)),
    )
    run = do.folder / "runs" / name
    for victim, step in (*kills, ("", 0)):
        began = time.perf_counter()
        with (do.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(str(SCRIPTS / "torchrun"), "--standalone", "--nproc_per_node=2"),
                    *("--no-python", *command(*words)),
                ],
                cwd=do.folder,
                env=do.environment | dict(os.environ),
                stdout=log,
                stderr=log,
            )
            if victim:
                kill(process, run, victim, step)
            code = process.wait(LIMIT_S)
        what = f"killed, {victim}, after step {newest(run)}: " if victim else ""
        do.tell((f"{what}torchrun 2 x", *words[:4]), code, time.perf_counter() - began)
        if bool(code) != bool(victim):
            raise SystemExit((do.folder / f"{name}.log").read_text()[-4000:])
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (run / "model").iterdir()}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    timed = ("time", "seconds", "_per_s", "tflop", "mfu", "elapsed")
    return files, [
        {k: v for k, v in line.items() if not any(word in k.lower() for word in timed)}
        for line in lines
    ]


def kill(process: subprocess.Popen[bytes], run: Path, victim: str, step: int) -> None:
    """Kill one rank or everything, once a checkpoint of the step or a later one is there."""
    until = time.monotonic() + LIMIT_S
    while newest(run) < step:
        if process.poll() is not None or time.monotonic() > until:
            return  # reported by the caller: the run has ended by itself
        time.sleep(0.02)
    time.sleep(0.1)  # in the steps after it
    ranks = children(process.pid)
    for pid in ranks[-1:] if victim == "one rank" else [process.pid, *ranks]:
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def newest(run: Path) -> int:
    return max((int(p.name.partition("-")[2]) for p in run.glob("step-*")), default=0)


if __name__ == "__main__":
    main()
