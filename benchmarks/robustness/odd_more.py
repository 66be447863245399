"""More ways in: names of models and files, media, sidecars, replies, cues; see `odd_readers`."""

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
    SCENE,
    Reader,
    annotate,
    annotation,
    call_command,
    command,
    generate,
    jobs,
    model,
    store,
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
    # It looks this often whether it is to end, and each odd name has a server of its own.
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
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


def cues(suffix: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from omni2sound.generate.words.cue_files import read_cues

        read_cues(folder / f"cues.{suffix}")

    return read


def table_of_jobs(folder: Path) -> None:
    model(folder)
    (folder / "jobs.csv").write_text("id,prompt,duration_s,seed,steps\na,rain,0.1,1,1\n")


def takes(folder: Path) -> None:
    """A first take, beside which the next would be made."""
    made(folder)
    for name in ("a.wav", "a.wav.json"):
        (folder / "out" / name).rename(folder / "out" / name.replace("a.", "a-1.", 1))


def read_takes(folder: Path) -> None:
    from omni2sound.generate.output import takes_beside

    takes_beside(folder / "out" / "a.wav")


def crew(folder: Path) -> None:
    annotation(folder)
    row = 'model = "scripted:script.json"\n'
    roles = "".join(f"[{role}]\n{row}" for role in ("vision", "junior", "senior"))
    (folder / "crew.toml").write_text(f'about = "made"\n{roles}')
    (folder / "phrases.txt").write_text("hard to hear\n")


def captions(folder: Path) -> None:
    from omni2sound.bench.metrics.avbench.clips import read_captions
    from omni2sound.bench.tracks.vggsound import read_captions as read_rows

    read_rows(folder / "captions.csv")
    read_captions(folder / "captions.csv")


def settings_of_sounds(folder: Path) -> None:
    from omni2sound.bench.systems.folder import check_settings

    check_settings(folder / "made.json", {"seed": 1, "track": {"name": "a"}})


def truth(folder: Path) -> None:
    from omni2sound.bench.tracks.scenes import read_truth

    read_truth(folder / "truth.json")


def stems(folder: Path) -> None:
    """Two stems, as `--stems` writes them."""
    facts = {"seed": 1, "steps": 1, "guidance": 1.0, "model": "m", "model_sha256": "0" * 64}
    made = facts | {"duration_s": 1.0, "request": {"prompt": "rain", "duration_s": 1.0}}
    rows = [{"name": name, "file": f"{name}.wav", "text": name} for name in ("a", "b")]
    for row in rows:
        tone(folder / "stems" / row["file"])
    description = {"omni2sound_mix": 1, "stems": rows, "made": made}
    (folder / "stems" / "mix.json").write_text(json.dumps(description))


def handed(folder: Path) -> None:
    """A take, and a project of one step that is done."""
    made(folder)
    step = {"id": "a", "do": "generate", "seed": 1, "settings": {
        "prompt": "rain", "duration_s": 0.1, "steps": 1}}  # fmt: skip
    project = {"omni2sound_project": 1, "steps": [step], "hand_over": {"takes": ["a"]}}
    (folder / "project.json").write_text(json.dumps(project))
    call_command(folder, [*_HAND_OVER, "--out-dir", "editor"])
    call_command(folder, _PROJECT)


def export_card(folder: Path) -> None:
    from tests.generate.test_export_card import CARD

    text({"exported/model.json": json.dumps(CARD)})(folder)


def read_export_card(folder: Path) -> None:
    from omni2sound.generate.onnx.folder import read_card

    read_card(folder / "exported")


def served(folder: Path) -> None:
    """An upload and a job of a server."""
    upload, job = "a" * 32, "b" * 32
    media = {"id": upload, "name": "a.wav", "kind": "sound", "duration_s": 1.0, "file": "/a"}
    media |= dict.fromkeys(("frames_per_second", "width", "height", "strip", "peaks"))
    media |= {"has_sound": True, "bytes": 1, "created": 1.0}
    asked = {"kind": "edit", "take": f"{job}-1", "ranges": [[0.0, 1.0]]}
    made = {"id": job, "kind": "edit", "state": "waiting", "created": 1.0, "request": asked}
    record = {"client": "a", "serial": 1, "ended": 2.0, "job": made}
    text({
        f"served/media/{upload}/media.json": json.dumps(media),
        f"served/jobs/{job}/job.json": json.dumps(record),
    })(folder)  # fmt: skip


def open_served(folder: Path) -> None:
    from omni2sound.serve.limits import Limits
    from omni2sound.serve.store import Store

    store = Store(folder / "served", Limits())
    store.sweep()
    store.is_needed("a" * 32)
    json.dumps([record.job.model_dump() for record in store.records()], allow_nan=False)


def tars(folder: Path) -> None:
    from omni2sound.data.store.repack import to_tars

    store(folder)
    to_tars(folder / "store", folder / "tars", clips_per_shard=2)


def began(folder: Path) -> None:
    """The beginning of a run of training, without its checkpoints' tensors."""
    origin = {"parts": "embedded", "data": ["store"]}
    state = {"step": 7, "identity": {"recipe": {}}, "progress": {}}
    text({
        "run/run.json": json.dumps(origin), "run/step-00000007/state.json": json.dumps(state)
    })(folder)  # fmt: skip


_BATCH = command("-q", "batch", "jobs.jsonl", "--model", "model", "--device", "cpu", "-o", "out")
_HAND_OVER = command("-q", "hand-over", "out/a.wav")
_PROJECT = command("-q", "project", ".", "--model", "model", "--device", "cpu")
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
    Reader("sidecar, next take", "json", "out/a-1.wav.json", takes, read_takes),
    Reader("jobs, CSV", "csv", "jobs.csv", table_of_jobs, command(
        "-q", "batch", "jobs.csv", "--model", "model", "--device", "cpu", "-o", "out")),
    Reader("cues, subtitles", "srt", "cues.srt", text({
        "cues.srt": "1\n00:00:01,000 --> 00:00:02,500\n<i>a dog</i>\n\n"}), cues("srt")),
    Reader("cues, CSV", "csv", "cues.csv", text({
        "cues.csv": "start,end,text\n1,2.5,a dog\n"}), cues("csv")),
    Reader("cues, JSON", "json", "cues.json", text({"cues.json": json.dumps(
        ["0.5-2: a dog", {"start": 1, "end": "0:02.5", "text": "rain"}])}), cues("json")),
    Reader("crew", "toml", "crew.toml", crew, [
        *("-q", "annotate", "run", "clips.jsonl", "new", "--crew", "crew.toml", "--workers", "1")]),
    Reader("phrases", "text", "phrases.txt", crew, annotate("new", "--phrases", "phrases.txt")),
    Reader("captions by name", "csv", "captions.csv", text({
        "captions.csv": "name,caption,similarity\na,a dog,0.1\n"}), captions),
    Reader("settings of made sounds", "json", "made.json", text({
        "made.json": json.dumps({"seed": 1, "track": {"name": "a"}})}), settings_of_sounds),
    Reader("truth of a clip", "json", "truth.json", text({
        "truth.json": json.dumps({"scene": SCENE, "events": []})}), truth),
    Reader("description of a mix", "json", "stems/mix.json", stems, command(
        "-q", "mix", "stems", "-o", "out.wav", "--overwrite")),
    Reader("sidecar, hand-over", "json", "out/a.wav.json", made, [
        *_HAND_OVER, "--out-dir", "new"]),
    Reader("sidecar, edit", "json", "out/a.wav.json", made, command(
        "-q", "edit", "out/a.wav", "--range", "0.02-0.05", "--model", "model", *_QUICK)),
    Reader("hand-over", "json", "editor/hand-over.json", handed, [
        *_HAND_OVER, "--out-dir", "editor"]),
    Reader("project", "json", "project.json", handed, _PROJECT),
    Reader("state of a project", "json", "takes/steps.json", handed, _PROJECT),
    Reader("card of an export", "json", "exported/model.json", export_card, read_export_card),
    Reader("upload of a server", "json", f"served/media/{'a' * 32}/media.json", served,
           open_served),
    Reader("job of a server", "json", f"served/jobs/{'b' * 32}/job.json", served, open_served),
    Reader("features in a tar file", "tar", "tars/00000.tar", tars, command(
        "-q", "data", "repack", "tars", "-o", "made", "--workers", "1")),
    Reader("origin of a run", "json", "run/run.json", began, command(
        "train-export", "run", "-o", "made")),
    Reader("weights of a part", "tensors", "model/autoencoder.safetensors", model, generate()),
    Reader("reply", "json", "reply.json", text({"reply.json": json.dumps(_REPLY)}), reply),
)  # fmt: skip

ALL = (*READERS, *MORE)
