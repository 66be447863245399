"""Run the example workflow in a running ComfyUI, and look at what comes back.

Run:  python main.py --cpu &                      (in ComfyUI, with this folder in custom_nodes)
      python try_it.py [--server http://127.0.0.1:8188] [--out FOLDER] [--interrupt]

Uploads the demo video, queues `workflow_api.json` over ComfyUI's HTTP interface, waits, downloads
every file and prints what it holds. With --interrupt the run is stopped while it generates.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from omni2sound.cli.demo import demo_video
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe

WORKFLOW = Path(__file__).with_name("workflow_api.json")
BOUNDARY = "omni2sound-upload"


class Server:
    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def open(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=600) as reply:
            content: bytes = reply.read()
            return content

    def upload(self, path: Path, name: str) -> None:
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
        self.open("/upload/image", body, f"multipart/form-data; boundary={BOUNDARY}")

    def queue(self, graph: dict[str, Any]) -> str:
        reply = self.open("/prompt", json.dumps({"prompt": graph}).encode())
        return str(json.loads(reply)["prompt_id"])

    def wait(self, job: str) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = json.loads(self.open(f"/history/{job}")).get(job, {})
            if found:
                return found
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--out", type=Path, default=Path("comfyui-out"))
    parser.add_argument("--interrupt", action="store_true", help="Stop the run in the middle.")
    parser.add_argument("--after", type=float, default=5, help="Seconds until --interrupt.")
    args = parser.parse_args()
    server = Server(args.server)
    server.upload(demo_video(), "omni2sound-demo.mp4")
    graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    begin = time.monotonic()
    job = server.queue(graph)
    if args.interrupt:
        time.sleep(args.after)
        server.open("/interrupt", b"{}")
    done = server.wait(job)
    print(f"{done['status']['status_str']} after {time.monotonic() - begin:.1f} s")
    for kind, facts in done["status"]["messages"]:
        if kind in ("execution_error", "execution_interrupted"):
            print(f"{kind}: {facts.get('node_type')} {facts.get('exception_message', '')}")
    args.out.mkdir(parents=True, exist_ok=True)
    for number, output in sorted(done["outputs"].items()):
        for file in (*output.get("audio", ()), *output.get("images", ())):
            path = args.out / file["filename"]
            path.write_bytes(server.open("/view?" + urllib.parse.urlencode(file)))
            info, sound = probe(path), read_audio(path)
            peak = abs(sound.samples_CN).max()
            print(
                f"{graph[number]['class_type']:14} {path.name}: {float(info.duration_s):.3f} s, "
                f"{sound.num_channels} x {sound.sample_rate_hz} Hz, peak {peak:.3f}, "
                f"{'video' if info.video else 'sound'}"
            )


if __name__ == "__main__":
    main()
