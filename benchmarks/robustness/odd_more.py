"""More ways in: names of models and files, media, sidecars, replies; see `odd_readers`."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.robustness.odd_readers import (
    READERS,
    Reader,
    call_command,
    command,
    generate,
    jobs,
    model,
    text,
    tone,
)

NAME = "NAME"
"""Stands for the content of the file in an argument."""


class _LogIn(BaseHTTPRequestHandler):
    """A network that asks to log in: every request gets a web page."""

    def do_GET(self) -> None:
        page = b"<!DOCTYPE html><html><body>Log in to the network</body></html>\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def captive_portal() -> Iterator[str]:
    """Answer on this machine in the Hub's place; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _LogIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        import huggingface_hub.constants as hub
        from huggingface_hub import hf_api

        with patch.object(hub, "ENDPOINT", address), patch.object(hf_api.api, "endpoint", address):
            yield address
    finally:
        server.shutdown()
        server.server_close()


def named(*arguments: str) -> Callable[[Path], None]:
    """Run a command with the content of name.txt in the place of NAME."""

    def read(folder: Path) -> None:
        name = (folder / "name.txt").read_text()
        with captive_portal():
            code = call_command(folder, [name if a == NAME else a for a in arguments])
        if code not in (0, 1):
            raise SystemExit(code)

    return read


def with_name(*setups: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for setup in setups:
            setup(folder)
        (folder / "name.txt").write_text("model")

    return write


def film(folder: Path) -> None:
    from tests.build import video_with_square

    model(folder)
    video_with_square(folder / "clip.mp4", duration_s=1.0)


def made(folder: Path) -> None:
    """A batch that has ended."""
    jobs(folder)
    call_command(folder, _BATCH)


def recording(folder: Path) -> None:
    tone(folder / "tone.wav")


def decode(folder: Path) -> None:
    from omni2sound.media.audio import read_audio

    read_audio(folder / "tone.wav")


_REPLY = {
    "choices": [{"message": {"content": "a dog barks"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


def reply(folder: Path) -> None:
    """Give a client the file as the body of a response."""
    from omni2sound.errors import ModelCallError
    from omni2sound.llm.chat import SendFailed
    from omni2sound.llm.client import OpenAIEndpoint
    from omni2sound.llm.replies import MAX_BODY_BYTES, checked
    from omni2sound.readers import read_bytes

    endpoint = OpenAIEndpoint("model", base_url="http://127.0.0.1:9", key_variable=None)
    try:
        read: Any = endpoint._reply(read_bytes(folder / "reply.json", max_bytes=MAX_BODY_BYTES))
    except SendFailed as error:
        raise ModelCallError(str(error)) from None
    json.dumps(checked(read, 1000).text, ensure_ascii=False).encode()


_BATCH = command("-q", "batch", "jobs.jsonl", "--model", "model", "--device", "cpu", "-o", "out")
_QUICK = ("--steps", "1", "--device", "cpu", "-o", "out.wav", "--overwrite")

MORE: tuple[Reader, ...] = (
    Reader("name of a model", "name", "name.txt", with_name(), named(
        "-q", "generate", "--prompt", "rain", "--model", NAME, "--duration", "0.1", *_QUICK)),
    Reader("name of a video", "name", "name.txt", with_name(model), named(
        "-q", "generate", NAME, "--model", "model", *_QUICK)),
    Reader("name of a manifest", "name", "name.txt", with_name(), named(
        "-q", "data", "check", NAME)),
    Reader("name of a checkpoint", "name", "name.txt", with_name(), named(
        "convert", NAME, "made")),
    Reader("video", "media", "clip.mp4", film, command(
        "-q", "generate", "clip.mp4", "--model", "model", *_QUICK)),
    Reader("sound", "media", "tone.wav", recording, decode),
    Reader("sidecar, batch", "json", "out/a.wav.json", made, _BATCH),
    Reader("sidecar, repair", "json", "out/a.wav.json", made, command(
        "-q", "doctor", "--repair", "out")),
    Reader("weights of a part", "tensors", "model/autoencoder.safetensors", model, generate()),
    Reader("reply", "json", "reply.json", text({"reply.json": json.dumps(_REPLY)}), reply),
)  # fmt: skip

ALL = (*READERS, *MORE)
