"""Many clients of one server at once: errors, waiting times, memory, time to cancel.

Run: python -m benchmarks.robustness.serve_load --clients 50 --minutes 5

Each client repeats at random: a short job followed to its end, an upload with its strip and its
sound, a job that is cancelled, a call that waits, a list of jobs. Counted: unexpected errors, the
time of /v1/health beside all that, the server's memory over time, and how long a running job, or
an export that encodes a film, goes on after its client cancels it. Exit code 1 if there was an
error or a traceback, if memory grew by more than a tenth from the second quarter of the run to the
last, or if a cancel took more than a second.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from examples.studio_client import Client, ServerError

from tests.build import tiny_model_folder, video_with_square
from tests.media.films import write_film
from tests.serve.served import ServerProcess, wait_until_ready

MOST_GROWTH, MOST_CANCEL_S = 0.1, 1.0
EXPECTED = (404, 409, 429)
"""A full queue, and what another client's cancel has removed."""


def act(client: Client, rng: random.Random, film: bytes) -> str:
    """Do one thing, and return what it was."""
    what = rng.choice(["job", "job", "upload", "cancel", "call", "list"])
    if what == "job":
        job = client.submit(prompt="rain", duration_s=0.2, seed=rng.randrange(99))
        assert client.finish(job["id"])["state"] == "done"
        client.json("DELETE", f"/v1/jobs/{job['id']}")
    elif what == "upload":
        media = client.upload("film.mp4", film)
        client.bytes(media["strip"])
        job = client.finish(client.submit(media=media["id"], seed=1)["id"])
        client.bytes(job["takes"][0]["sound"])
        client.json("DELETE", f"/v1/jobs/{job['id']}")
        client.json("DELETE", f"/v1/media/{media['id']}")
    elif what == "cancel":
        job = client.submit(prompt="rain", duration_s=5, steps=200)
        time.sleep(rng.uniform(0, 2))
        client.json("DELETE", f"/v1/jobs/{job['id']}")
        client.finish(job["id"])
        client.json("DELETE", f"/v1/jobs/{job['id']}")
    elif what == "call":
        body = json.dumps({"prompt": "rain", "duration_s": 0.2}).encode()
        with client.open("POST", "/v1/audio/generate", body, "application/json") as answer:
            assert answer.read()[:4] == b"RIFF"
    else:
        client.json("GET", "/v1/jobs")
    return what


def work(address: str, seed: int, film: bytes, end_s: float, count: Counter[str]) -> None:
    """Act as one client until a time."""
    client, rng = Client(address), random.Random(seed)
    while time.monotonic() < end_s:
        try:
            count[act(client, rng, film)] += 1
        except ServerError as error:
            count["refused" if error.status in EXPECTED else f"error {error.status}"] += 1
            time.sleep(0.5)
        except (OSError, AssertionError, ValueError) as error:
            count[f"error {type(error).__name__} {error}"[:80]] += 1


def memory_mb(client: Client) -> float:
    """Return the resident memory of the server."""
    text = client.bytes("/metrics").decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float(found[1]) / 1e6 if found else float("nan")


def cancel_times_s(client: Client, count: int, kind: str, **body: Any) -> list[float]:
    """Cancel running jobs of one kind; return how long the device went on."""
    times = []
    for number in range(count):
        job = client.submit(kind, **body)["id"]
        while client.json("GET", f"/v1/jobs/{job}")["state"] == "waiting":
            time.sleep(0.005)
        time.sleep(0.1 * number)
        began_s = time.monotonic()
        client.json("DELETE", f"/v1/jobs/{job}")
        while client.json("GET", f"/v1/jobs/{job}")["state"] == "running":
            time.sleep(0.005)
        times.append(time.monotonic() - began_s)
    return times


def long_export(client: Client, folder: Path) -> dict[str, Any]:
    """Sound a film of two minutes; return what exports it with its picture encoded anew."""
    film = video_with_square(folder / "long.mp4", duration_s=120, size_px=(240, 320))
    media = client.upload("long.mp4", film.read_bytes())["id"]
    job = client.finish(client.submit(media=media, seen="off", steps=1, seed=1)["id"])
    return {"take": job["takes"][0]["id"], "format": "mkv", "reencode": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50, help="number of clients")
    parser.add_argument("--minutes", type=float, default=5, help="length of the run")
    parser.add_argument("--cancels", type=int, default=20, help="jobs to cancel afterwards")
    parser.add_argument("--model", help='model; default: a tiny one, "embedded" for the real one')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = args.model or str(tiny_model_folder(folder / "model"))
        film = write_film(folder / "film.mp4").read_bytes()
        server = ServerProcess(folder / "served", "--model", model)
        client, count = Client(server.address), Counter[str]()
        wait_until_ready(client)
        end_s = time.monotonic() + 60 * args.minutes
        threads = [
            threading.Thread(target=work, args=(server.address, seed, film, end_s, count))
            for seed in range(args.clients)
        ]
        for thread in threads:
            thread.start()
        health_s, memory = [], []
        while not memory or time.monotonic() < end_s:
            began_s = time.monotonic()
            client.json("GET", "/v1/health")
            health_s.append(time.monotonic() - began_s)
            memory.append(memory_mb(client))
            time.sleep(1)
        for thread in threads:
            thread.join()
        cancels_s = {
            "generate": cancel_times_s(
                client, args.cancels, "generate", prompt="rain", duration_s=60, steps=100
            ),
            "export": cancel_times_s(client, args.cancels, "export", **long_export(client, folder)),
        }
        log = Path(server.log.name).read_text(encoding="utf-8")
        code = server.stop()
    print(", ".join(f"{what} {number}" for what, number in sorted(count.items())))
    quarters = [np.mean(part) for part in np.array_split(memory, 4) if len(part)]
    print(f"memory in quarters of the run: {', '.join(f'{mb:.0f} MB' for mb in quarters)}")
    print(f"/v1/health: median {np.median(health_s):.3f} s, most {max(health_s):.3f} s")
    for kind, times_s in cancels_s.items():
        if times_s:
            told = f"median {np.median(times_s):.3f} s, most {max(times_s):.3f} s"
            print(f"cancel of {len(times_s)} times {kind}: {told}")
    print(f"{log.count('Traceback')} tracebacks in the log, exit code {code}")
    fine = not any(what.startswith("error") for what in count) and "Traceback" not in log
    fine &= len(quarters) < 4 or quarters[3] <= (1 + MOST_GROWTH) * quarters[1]
    fine &= all(t <= MOST_CANCEL_S for times_s in cancels_s.values() for t in times_s)
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
