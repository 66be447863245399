"""Hostile uploads: each is kept as what it is or refused in a sentence, and nothing of it is left.

Run: python -m benchmarks.robustness.serve_uploads --uploads 300

Files of six kinds are cut, flipped, spliced, repeated and mixed with text, and sent under names
that are paths, options, devices or too long. What is accepted is drawn, read and deleted. Counted:
answers by status, files outside of the server's folder and files that stay, and its memory.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from examples.studio_client import Client, ServerError

from benchmarks.robustness.serve_load import memory_mb
from omni2sound.media.audio import write_audio
from tests.build import tiny_model_folder
from tests.media.films import tone, write_film
from tests.serve.served import ServerProcess, wait_until_ready

NAMES = (
    *("film.mp4", "../../../etc/passwd", "/dev/stdin", "C:\\con", "-rf", "a" * 400, ".", "", "%00"),
    *("x.m3u8", "concat:a.ts", "http://192.0.2.1/x.mp4", "x.svg", "x.html", "x\u202e4pm.exe"),
)
TEXTS = (
    *(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"),
    *(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", b"\x1f\x8b\x08" * 99),
    *(b"", b"\0" * 10**6, b"RIFF\xff\xff\xff\xffWAVEfmt ", b"GIF89a\xff\xff\xff\xff" * 9),
)


def good_files(folder: Path) -> list[bytes]:
    """Make one file of each kind."""
    made = [write_film(folder / f"film.{suffix}") for suffix in ("mp4", "mkv", "mov")]
    for suffix in ("wav", "flac", "mp3"):
        path = folder / f"tone.{suffix}"
        write_audio(path, tone(440, duration_s=0.5))
        made.append(path)
    return [path.read_bytes() for path in made]


def spoil(rng: random.Random, files: list[bytes]) -> bytes:
    """Damage a file in one of several ways."""
    data = bytearray(rng.choice(files))
    way = rng.choice(["cut", "flip", "splice", "repeat", "text", "sizes", "front"])
    if way == "cut":
        del data[rng.randrange(len(data)) :]
    elif way == "flip":
        for _ in range(rng.choice([1, 10, 200])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif way == "splice":
        data[rng.randrange(len(data)) :] = rng.choice(files)[rng.randrange(500) :]
    elif way == "repeat":
        data *= rng.choice([2, 20])
    elif way == "sizes":  # lengths in headers that claim everything
        for _ in range(3):
            at = rng.randrange(min(len(data), 600))
            data[at : at + 4] = b"\xff\xff\xff\x7f"
    elif way == "front":
        data[:0] = rng.choice(TEXTS)[:64]
    else:
        return rng.choice(TEXTS)
    return bytes(data)


def use(client: Client, media: dict[str, str]) -> None:
    """Draw, read and delete an upload."""
    for url in (media["file"], media["strip"], media["peaks"]):
        if url:
            client.bytes(url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=300, help="number of uploads")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--minutes", type=float, default=60, help="longest time of uploads")
    args = parser.parse_args()
    rng, statuses = random.Random(args.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = good_files(folder)
        model = tiny_model_folder(folder / "model")
        before = sorted(folder.iterdir())
        server = ServerProcess(folder / "served", "--model", str(model), "--max-upload", "20")
        client = Client(server.address)
        wait_until_ready(client)
        begin_mb = memory_mb(client)
        end_s = time.monotonic() + 60 * args.minutes
        while statuses.total() < args.uploads and time.monotonic() < end_s:
            media = None
            title = rng.choice(NAMES).encode("ascii", "replace").decode()
            try:
                media = client.upload(title, spoil(rng, files))
                use(client, media)
                statuses["kept and used"] += 1
            except ServerError as error:
                statuses[f"{'kept, then ' if media else ''}{error.status}"] += 1
            except OSError as error:
                statuses[type(error).__name__] += 1
            if media is not None:
                client.json("DELETE", f"/v1/media/{media['id']}")
        end_mb = memory_mb(client)
        log = Path(server.log.name).read_text(encoding="utf-8")
        left = [path for path in (folder / "served").rglob("*") if path.is_file()]
        outside = set(folder.iterdir()) - set(before) - {folder / "served", folder / "served.log"}
        code = server.stop()
    print(", ".join(f"{status}: {number}" for status, number in sorted(statuses.items())))
    print(
        f"{statuses.total()} uploads: {len(left)} files left, {len(outside)} outside of "
        f"its folder, "
        f"{log.count('Traceback')} tracebacks in the log, memory {begin_mb:.0f} to "
        f"{end_mb:.0f} MB, exit code {code}"
    )


if __name__ == "__main__":
    main()
