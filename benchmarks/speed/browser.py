"""The page of `omni2sound try`: bytes to load, seconds to a sound, and how near it is to Python's.

Run: python -m benchmarks.speed.browser

In headless Chromium, whose network is off once the model is loaded. Processor time is that of all
of Chromium's processes while a sound is made; with other work on the machine it bounds what an idle
one needs: at least half of it on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.checks.page_driver import chromium
from benchmarks.checks.try_driver import TryPage, difference_db, try_page
from omni2sound.browser.parts import INDEX, parts_of
from omni2sound.browser.site import site_files, site_server
from omni2sound.generate.onnx.folder import default_folder
from omni2sound.generate.onnx.pipeline import OnnxPipeline
from omni2sound.media.samples import Audio
from omni2sound.weights import load_card, resolve_model
from tests.build import film_of_waves

PROMPT, SEED = "a dog barks twice", 7
FILM_S = 8


def processor_s() -> float:
    """Processor seconds of all processes below this one (Linux)."""
    ticks, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        ticks[path.parent.name] = int(fields[11]) + int(fields[12])
        parents[path.parent.name] = fields[1]
    own, total = str(os.getpid()), 0
    for pid, count in ticks.items():
        above: str | None = parents[pid]
        while above is not None and above != own:
            above = parents.get(above)
        total += count if above == own else 0
    return total / os.sysconf("SC_CLK_TCK")


def timed(page: TryPage, *arguments: Any, **named: Any) -> dict[str, float]:
    """Seconds and processor seconds of one sound."""
    before = processor_s()
    took_s = page.make(*arguments, **named)
    return {"seconds": round(took_s, 2), "processor_s": round(processor_s() - before, 2)}


def measure(folder: Path, seconds: float, num_sentences: int, shots: Path | None) -> dict[str, Any]:
    """All figures, of a folder for what is made."""
    exported = default_folder(load_card(resolve_model("embedded")).sha256)
    parts = parts_of(exported)
    files = site_files(parts)
    files.pop("runtime.js")  # for tests
    film = film_of_waves(folder / "film.mp4", duration_s=FILM_S, fps=30, size_px=(720, 1280))
    listed = json.loads((parts / INDEX).read_text(encoding="utf-8"))["files"]
    made: dict[str, Any] = {
        "download_mb": round(sum(path.stat().st_size for path in files.values()) / 1e6, 2),
        "parts": {entry["name"]: entry["bytes"] for entry in listed},
    }
    with site_server(parts, 0) as server, chromium() as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        with try_page(browser, address) as page:
            begin = time.monotonic()
            made["page_says_mb"] = page.load()
            made["load_s"] = round(time.monotonic() - begin, 2)
            page.page.context.set_offline(True)
            made["threads"] = page.page.locator("#size").inner_text()
            made["sentence"] = timed(page, PROMPT, seed=SEED, seconds=seconds)
            sounds = {PROMPT: page.samples()}
            look(page, shots, "sentence")
            for sentence in typed_sentences()[:num_sentences]:
                page.make(sentence, seed=SEED, seconds=seconds)
                sounds[sentence] = page.samples()
            made["video"] = timed(page, "", seed=SEED, film=film)
            of_film_N = page.samples()
            look(page, shots, "video")
            assert not page.foreign, page.foreign
        server.shutdown()
    pipeline = OnnxPipeline.load(exported)
    differences = {}
    for sentence, sound_N in sounds.items():
        wanted = pipeline(prompt=sentence, duration_s=seconds, seed=SEED).audio
        differences[sentence] = _difference_db(sound_N, wanted)
    wanted = pipeline(video=film, recognise=False, seed=SEED).audio
    differences["the video"] = _difference_db(of_film_N, wanted)
    made["difference_db"] = differences
    return made


def typed_sentences() -> list[str]:
    """Sentences as people type them."""
    path = Path(__file__).parents[1] / "quality" / "typed_sentences.tsv"
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [prompt for prompt, _ in rows]


def _difference_db(sound_N: NDArray[np.float32], wanted: Audio) -> float:
    return round(difference_db(sound_N, np.asarray(wanted.samples_CN[0])), 1)


def look(page: TryPage, shots: Path | None, name: str) -> None:
    """Take pictures of the page, as wide as a desktop and as a phone."""
    if shots is None:
        return
    shots.mkdir(parents=True, exist_ok=True)
    for kind, size in (("phone", (390, 844)), ("desktop", (1280, 900))):
        page.page.set_viewport_size({"width": size[0], "height": size[1]})
        page.page.screenshot(path=shots / f"{name}-{kind}.png", full_page=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="Of the sentence's sound.")
    parser.add_argument(
        "--sentences",
        type=int,
        default=0,
        metavar="N",
        help="More sentences to compare, up to 120.",
    )
    parser.add_argument("--shots", type=Path, help="Folder for pictures of the page.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(
            json.dumps(
                measure(Path(folder), options.seconds, options.sentences, options.shots), indent=1
            )
        )


if __name__ == "__main__":
    main()
