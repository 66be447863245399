"""Calls to a server that make little sense: errors must be sentences, and none the server's.

Run: python -m benchmarks.robustness.serve_calls --calls 2000

Each call takes a route of the OpenAPI document, ids that exist or do not, and a body whose fields
are right, wrong, missing, too many or of another type. Counted: answers by status, errors of the
server (5xx), errors without a sentence or with a path, answers later than 10 s, tracebacks in the
log, and files outside of the server's folder.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from examples.studio_client import Client, ServerError

from tests.build import tiny_model_folder
from tests.media.films import write_film
from tests.serve.served import ServerProcess, wait_until_ready

LATE_S = 10
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e308, 2**70, "", " ", "x" * 3000, [], {}, [[]], [None], {"a": 1}),
    *("../../etc/passwd", "/etc/passwd", "\0", "\ud800", "‮", "%00", "a\nb", "0" * 32),
)
IDS = ("0" * 32, "x", "..", "%2e%2e%2f", "0" * 32 + "-1", "a" * 5000, "%00")


def good_body(rng: random.Random, known: dict[str, list[str]]) -> dict[str, Any]:
    """Return a body that makes sense, with ids that exist."""
    media, take = rng.choice(known["media_id"]), rng.choice(known["take_id"])
    bodies: list[dict[str, Any]] = [
        {"kind": "generate", "prompt": "rain", "duration_s": 0.2, "stems": rng.random() < 0.3},
        {"kind": "generate", "media": media, "cues": [{"from_s": 0.1, "prompt": "a bell"}]},
        {"kind": "edit", "take": take, "ranges": [[0.1, 0.2]], "prompt": "rain"},
        {"kind": "see", "media": media},
        {"kind": "stems", "take": take},
        {"kind": "export", "take": take, "format": rng.choice(["wav", "mp4", "flac"])},
    ]
    return rng.choice(bodies)


def spoil(rng: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """Change one thing, or a few."""
    body = dict(body)
    for _ in range(rng.randint(0, 2)):
        name = rng.choice([*body, "seed", "takes", "duration_s", "loudness", "unknown", "mix"])
        if rng.random() < 0.2:
            body.pop(name, None)
        else:
            body[name] = rng.choice(JUNK)
    return body


def fill(rng: random.Random, template: str, known: dict[str, list[str]]) -> str:
    """Put ids into a path: mostly ones that exist."""
    for name, ids in known.items():
        while f"{{{name}}}" in template:
            junk = rng.choice(
                ["0" * 32, "x", "..", "%2e%2e%2f", "0" * 32 + "-1", "a" * 5000, "%00"]
            )
            chosen = rng.choice(ids) if ids and rng.random() < 0.7 else junk
            template = template.replace(f"{{{name}}}", chosen, 1)
    return template


def call(
    client: Client, rng: random.Random, paths: Any, known: dict[str, list[str]]
) -> tuple[int, bool]:
    """Make one call; return its status, and whether an error was told as it should."""
    template = rng.choice([path for path in paths if "events" not in path])
    method = rng.choice([*paths[template], "get"]).upper()
    path = fill(rng, template, known)
    if rng.random() < 0.3:
        path += f"?{rng.choice(['per_second', 'count', 'height', 'width', 'ids'])}="
        path += rng.choice(["1", "50", "-1", "1e9", "x", "%00", ""])
    data, kind = b"", ""
    if method == "POST":
        data = json.dumps(spoil(rng, good_body(rng, known))).encode()
        kind = rng.choice(["application/json"] * 8 + ["text/plain", "multipart/form-data", ""])
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data))]
    try:
        with client.open(method, path, data or None, kind) as answer:
            answer.read()
            return int(answer.status), True
    except ServerError as error:
        said = str(error.error.get("message") or "")
        is_told = bool(said) and not any(word in said for word in ("Traceback", "/tmp/", ".py"))
        return error.status, is_told


def prepare(client: Client, film: bytes) -> dict[str, list[str]]:
    """Make uploads, jobs and takes to ask for."""
    media = [client.upload("film.mp4", film)["id"] for _ in range(3)]
    jobs = [client.submit(media=media[0], seed=k, stems=k > 1)["id"] for k in range(3)]
    takes = [client.finish(job)["takes"][0]["id"] for job in jobs]
    names = ["rest", "a-dog-barks", "mix", "..", "%2e%2e"]
    return {"media_id": media, "job_id": jobs, "take_id": takes, "name": names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="number of calls")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--minutes", type=float, default=60, help="longest time of calls")
    args = parser.parse_args()
    rng, statuses, late, untold = random.Random(args.seed), Counter[int](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_model_folder(folder / "model")
        film = write_film(folder / "film.mp4").read_bytes()
        before = sorted(folder.iterdir())
        server = ServerProcess(folder / "served", "--model", str(model), "--max-jobs", "1000")
        client = Client(server.address)
        wait_until_ready(client)
        paths = client.json("GET", "/openapi.json")["paths"]
        known = prepare(client, film)
        end_s = time.monotonic() + 60 * args.minutes
        while statuses.total() < args.calls and time.monotonic() < end_s:
            if statuses.total() % 200 == 199:
                known = prepare(client, film)
            began_s = time.monotonic()
            status, is_told = call(client, rng, paths, known)
            statuses[status] += 1
            untold += not is_told
            late += time.monotonic() - began_s > LATE_S
        log = Path(server.log.name).read_text(encoding="utf-8")
        code = server.stop()
        outside = set(folder.iterdir()) - set(before) - {folder / "served", folder / "served.log"}
    for status, count in sorted(statuses.items()):
        print(f"{status}: {count}")
    failed = sum(count for status, count in statuses.items() if status >= 500)
    print(
        f"{statuses.total()} calls: {failed} errors of the server, {untold} without a sentence, "
        f"{late} later than {LATE_S} s, "
        f"{log.count('Traceback')} tracebacks in the log, {len(outside)} files outside of its "
        f"folder, exit code {code}"
    )


if __name__ == "__main__":
    main()
