"""Stands for a command that the server runs: its streams, its signals, its exit code."""

import json
import os
import signal
import socket
import sys


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main() -> int:
    address, *arguments = sys.argv[1:]
    streams = [fd for fd in (0, 1, 2) if is_open(fd)]
    request = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109 (pathlib would take as long as all the rest)
        "environment": dict(os.environ),
        "streams": streams,
        "interrupt_is_ignored": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"\n"], streams)
        server.sendall(json.dumps(request).encode() + b"\n")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        status = int(server.recv(16))
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    os._exit(main())
