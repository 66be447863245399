"""A client of `omni2sound serve` on the standard library alone.

omni2sound serve &
python examples/studio_client.py film.mp4 --prompt "rain" --out film.rain.mp4
"""

from __future__ import annotations

import argparse
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ServerError(Exception):
    """What the server refused, as its sentence."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('field') or status}: {error.get('message')}")
        self.status, self.error = status, error


class Client:
    """One client of a server; its jobs take turns with those of others."""

    def __init__(self, address: str = "http://127.0.0.1:8765", token: str | None = None) -> None:
        self.address = address.rstrip("/")
        self._headers = {"X-Client": secrets.token_urlsafe(12)}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def open(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
        """Send a request and return the open response."""
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                said = json.loads(text)["error"]
            except (ValueError, KeyError):
                said = {"message": text.decode(errors="replace")}
            raise ServerError(error.code, said) from None

    def json(self, method: str, path: str, data: Any = None) -> Any:
        """Send JSON and return the JSON that comes back."""
        body = None if data is None else json.dumps(data).encode()
        with self.open(method, path, body, "" if body is None else "application/json") as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def bytes(self, path: str) -> bytes:
        """Return what lies at a path."""
        with self.open("GET", path) as answer:
            data: bytes = answer.read()
        return data

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Send a file, and return what the server found in it."""
        mark = secrets.token_hex(16)
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        kind = f"multipart/form-data; boundary={mark}"
        with self.open("POST", "/v1/media", body, kind) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def submit(self, kind: str = "generate", **body: Any) -> dict[str, Any]:
        """Hand in a job."""
        job: dict[str, Any] = self.json("POST", "/v1/jobs", {"kind": kind, **body})
        return job

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield a job at each change, up to its end."""
        with self.open("GET", f"/v1/jobs/{job_id}/events") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def finish(self, job_id: str) -> dict[str, Any]:
        """Wait for the end of a job, and return it."""
        for _ in self.follow(job_id):
            pass
        job: dict[str, Any] = self.json("GET", f"/v1/jobs/{job_id}")
        return job


def main() -> None:
    parser = argparse.ArgumentParser(description="Sound a film on a server.")
    parser.add_argument("film", type=Path, help="film to sound")
    parser.add_argument("--prompt", default="", help="what should be heard")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .mp4 or .wav")
    parser.add_argument("--server", default="http://127.0.0.1:8765", help="address of the server")
    args = parser.parse_args()
    client = Client(args.server)
    media = client.upload(args.film.name, args.film.read_bytes())
    job = client.submit(media=media["id"], prompt=args.prompt)
    for news in client.follow(job["id"]):
        job = news
        print(f"{job['state']}: {job['stage'] or ''} {job['fraction']:.0%}")
    if not job["takes"]:
        raise SystemExit(job["error"]["message"] if job["error"] else job["state"])
    take, suffix = job["takes"][0], args.out.suffix[1:]
    export = client.finish(client.submit("export", take=take["id"], format=suffix)["id"])
    args.out.write_bytes(client.bytes(export["file"]["url"]))


if __name__ == "__main__":
    main()
