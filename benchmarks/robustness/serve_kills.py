"""Kills of a server at random moments: no job may be lost that was said to be taken.

Run: python -m benchmarks.robustness.serve_kills --kills 30

Three clients hand in jobs all the time, and the server is killed (SIGKILL) after a random time and
started again in the same folder. In the end every job that was answered with 202 must be done, with
the same bytes for the same seed, or gone because its client removed it. Files outside of the
server's folder and leftovers in it are counted.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from examples.studio_client import Client, ServerError

from tests.build import tiny_model_folder
from tests.serve.served import ServerProcess, wait_until_ready

SEEDS = 5


def hand_in(address: str, rng: random.Random, taken: list[str], stop: threading.Event) -> None:
    """Hand in jobs until the server is gone."""
    client = Client(address)
    while not stop.is_set():
        try:
            seed = rng.randrange(SEEDS)
            job = client.submit(prompt="rain", duration_s=0.4, seed=seed, takes=rng.randint(1, 2))
            taken.append(job["id"])
        except (OSError, ServerError, ValueError):
            pass
        time.sleep(rng.uniform(0.02, 0.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--minutes", type=float, default=60, help="longest time of kills")
    args = parser.parse_args()
    rng, taken = random.Random(args.seed), list[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_model_folder(folder / "model")
        options = ("--model", str(model), "--max-jobs", "10000")
        kills, end_s = 0, time.monotonic() + 60 * args.minutes
        while kills < args.kills and time.monotonic() < end_s:
            kills += 1
            server, stop = ServerProcess(folder / "served", *options), threading.Event()
            workers = [
                threading.Thread(
                    target=hand_in, args=(server.address, random.Random(rng.random()), taken, stop)
                )
                for _ in range(3)
            ]
            for worker in workers:
                worker.start()
            time.sleep(rng.uniform(0.3, 6))
            server.kill()
            stop.set()
            for worker in workers:
                worker.join()
        server = ServerProcess(folder / "served", *options)
        client = Client(server.address)
        wait_until_ready(client)
        states, sounds, lost = Counter[str](), defaultdict[int, set[str]](set), 0
        for job_id in taken:
            try:
                job = client.finish(job_id)
            except ServerError:
                lost += 1
                continue
            states[job["state"]] += 1
            for take in job["takes"]:
                sounds[take["seed"]].add(hashlib.sha256(client.bytes(take["sound"])).hexdigest())
        server.stop()
        log = Path(server.log.name).read_text(encoding="utf-8")
        parts = [p for p in (folder / "served").rglob("*") if ".part" in p.name]
        outside = {p.name for p in folder.iterdir()} - {"model", "served", "served.log"}
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    differing = sum(len(digests) > 1 for digests in sounds.values())
    print(
        f"{kills} kills, {len(taken)} jobs taken: {lost} lost; {told}; {differing} of "
        f"{len(sounds)} seeds with differing bytes, {log.count('Traceback')} tracebacks in the "
        f"log, {len(parts)} leftovers, {len(outside)} files outside of its folder"
    )


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
