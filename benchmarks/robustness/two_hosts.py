"""Does a run on two machines survive a dead rank, and give the numbers of one process?

    python benchmarks/robustness/two_hosts.py

Two network namespaces stand for the machines. Between them lie two TUN devices, and a thread that
holds every packet back for `--delay-ms` and drops a share of them (`--loss`), so that no module
of the kernel is needed. `torchrun` (gloo, FSDP2) trains the corpus made in code with one rank on
each; one rank is killed in the middle (SIGKILL), both machines have to end by themselves, and the
same two commands go on. Compared are loss and gradient norm of every step with those of one process
without a network. Exit code 1 if they differ by more than 1e-4. Needs Linux, root and `ip`;
elsewhere it says so.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from click_corpus import click_store
from two_ranks import fork_ranks, same_numbers

from omni2sound.encoders.text import TextEncoder

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 29577
LIMIT_S = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--delay-ms", type=float, default=10.0, help="one way (10)")
    parser.add_argument("--loss", type=float, default=0.005, help="share of packets (0.005)")
    args = parser.parse_args()
    if reason := why_not():
        print(f"two machines can't be made here: {reason}")
        return
    torch.set_num_threads(1)  # with more, a process may not fork
    encoder = TextEncoder.load()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        click_store(root / "features", encoder)
        fork_ranks(1, root / "one", args.steps, [], None, encoder)
        with two_machines(args.delay_ms / 1000, args.loss) as (machines, counts):
            began = time.monotonic()
            reached = until_killed(machines, root / "two", args.steps)
            print(f"killed a rank after step {reached}; both machines ended by themselves")
            codes = [p.wait(LIMIT_S) for p in start(machines, root / "two", args.steps)]
            if any(codes):
                raise SystemExit(f"the run did not go on: exit codes {codes}")
            print(
                f"{counts['carried']} packets of {args.delay_ms:g} ms, {counts['lost']} lost, "
                f"{time.monotonic() - began:.0f} s"
            )
        fine = same_numbers(root / "one", root / "two", "two machines")
    raise SystemExit(not fine)


def why_not() -> str | None:
    """Why there can't be two machines here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if shutil.which("ip") is None or not os.access("/dev/net/tun", os.W_OK):
        return "needs `ip` and /dev/net/tun"
    name = f"o2s-try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return "no network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


@contextmanager
def two_machines(delay_s: float, loss: float) -> Iterator[tuple[list[str], dict[str, int]]]:
    """Names of two namespaces, each with one device, and the counts of packets between them."""
    names = [f"o2s-{side}-{os.getpid()}" for side in "ab"]
    made: list[int] = []
    counts = {"carried": 0, "lost": 0}
    ended = threading.Event()
    try:
        for name, address in zip(names, ADDRESSES, strict=True):
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(tun(name))
            subprocess.run(["ip", "link", "set", "dev", name[:15], "netns", name], check=True)
            inside = ["ip", "-n", name]
            for words in (
                ["addr", "add", f"{address}/24", "dev", name[:15]],
                ["link", "set", name[:15], "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run([*inside, *words], check=True)
        carry = threading.Thread(target=relay, args=(made, delay_s, loss, counts, ended))
        carry.start()
        try:
            yield names, counts
        finally:
            ended.set()
            carry.join()
    finally:
        for device in made:
            os.close(device)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def tun(name: str) -> int:
    """A TUN device; what is written to the returned file arrives there."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name[:15].encode(), IFF_TUN | IFF_NO_PI))
    return device


def relay(
    devices: list[int], delay_s: float, loss: float, counts: dict[str, int], ended: threading.Event
) -> None:
    """Carry packets both ways, late, and lose some."""
    rng, waiting, number = random.Random(0), list[tuple[float, int, int, bytes]](), 0
    while not ended.is_set():
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(waiting)
            try:
                os.write(target, packet)
            except (BlockingIOError, OSError):
                counts["lost"] += 1  # a full queue
        pause_s = min(0.1, waiting[0][0] - now) if waiting else 0.1
        for source in select.select(devices, [], [], max(0.0, pause_s))[0]:
            packet, number = os.read(source, 65536), number + 1
            if rng.random() < loss:
                counts["lost"] += 1
                continue
            counts["carried"] += 1
            target = devices[1 - devices.index(source)]
            heapq.heappush(waiting, (time.monotonic() + delay_s, number, target, packet))


def start(machines: list[str], out: Path, steps: int) -> list[subprocess.Popen[bytes]]:
    """Start `torchrun` on both machines."""
    script = Path(__file__).with_name("two_ranks.py")
    started = []
    for place, name in enumerate(machines):
        command = [
            *("ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes=2", f"--node_rank={place}", "--nproc_per_node=1"),
            *(f"--master_addr={ADDRESSES[0]}", f"--master_port={PORT}"),
            *(str(script), f"--child={out}", f"--steps={steps}"),
        ]
        variables = {"GLOO_SOCKET_IFNAME": name[:15], "OMP_NUM_THREADS": "1"}
        with (out.parent / f"{name}.log").open("ab") as log:
            started.append(
                subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
            )
    return started


def until_killed(machines: list[str], out: Path, steps: int) -> int:
    """Kill the second machine's rank in the middle; the last step that was logged."""
    started, until = start(machines, out, steps), time.monotonic() + LIMIT_S
    try:
        while (reached := last_step(out)) < steps // 2:
            if time.monotonic() > until or any(p.poll() is not None for p in started):
                logs = "\n".join(p.read_text()[-2000:] for p in out.parent.glob("*.log"))
                raise SystemExit(f"the run did not get to step {steps // 2}\n{logs}")
            time.sleep(0.05)
        pid = started[1].pid
        for rank in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(rank), signal.SIGKILL)
        codes = [process.wait(LIMIT_S) for process in started]
        if 0 in codes:
            raise SystemExit("a machine says that the run was fine")
        return reached
    finally:
        for process in started:
            process.kill()


def last_step(out: Path) -> int:
    path = out / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


if __name__ == "__main__":
    main()
