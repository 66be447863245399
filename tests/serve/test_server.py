"""A server at work: jobs, files, limits, errors; on real sockets, with a tiny model."""

from __future__ import annotations

import io
import json
import re
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from examples.studio_client import Client, ServerError
from PIL import Image
from starlette.testclient import TestClient

from omni2sound import Omni2SoundPipeline
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.info import probe
from tests.media.films import Sound, levels, tone, write_film
from tests.serve.served import ServerThread, wait_until


def _samples(client: Client, take: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    samples_NC, _ = soundfile.read(io.BytesIO(client.bytes(take["sound"])), dtype="float32")
    return np.atleast_2d(samples_NC.T)


def _refused(status: int, client: Client, method: str, path: str, data: Any = None) -> str:
    with pytest.raises(ServerError) as refusal:
        client.json(method, path, data)
    assert refusal.value.status == status
    assert set(refusal.value.error) == {"message", "field", "given"}
    return str(refusal.value)


@pytest.mark.slow
def test_a_job_makes_what_the_library_makes(client: Client, model: Path) -> None:
    job = client.submit(prompt="a dog barks", duration_s=0.5, seed=7, takes=2)
    assert job["state"] == "waiting"
    assert job["request"]["seed"] == 7
    job = client.finish(job["id"])
    assert job["state"] == "done"
    assert job["fraction"] == 1
    assert [take["seed"] for take in job["takes"]] == [7, 8]
    audio = Omni2SoundPipeline.from_pretrained(model, device="cpu")(
        prompt="a dog barks", duration_s=0.5, seed=7
    )
    made_CN = _samples(client, job["takes"][0])
    assert np.allclose(made_CN, audio.limited().samples_CN, atol=2**-22)


@pytest.mark.slow
def test_a_film_is_uploaded_drawn_seen_sounded_edited_and_exported(
    client: Client, film: bytes, server: ServerThread
) -> None:
    media = client.upload("../My Film.mp4", film)
    assert (media["kind"], media["name"], media["has_sound"]) == ("video", "My Film.mp4", False)
    assert client.bytes(media["file"]) == film
    strip = Image.open(io.BytesIO(client.bytes(f"{media['strip']}?count=5&height=20")))
    assert strip.size == (5 * 30, 20)
    job = client.finish(client.submit(media=media["id"], prompt="rain", seed=1)["id"])
    take = job["takes"][0]
    assert take["media"] == media["id"]
    assert len(client.json("GET", f"{take['peaks']}?per_second=20")["peaks"]) == 20
    assert Image.open(io.BytesIO(client.bytes(take["spectrogram"]))).format == "PNG"
    assert client.bytes(take["video"])[4:8] == b"ftyp"

    asked = {"take": take["id"], "ranges": [[0.4, 0.6]], "prompt": "rain", "seed": 2}
    edited = client.finish(client.submit("edit", **asked)["id"])["takes"][0]
    assert edited["edited"] == take["id"]
    before_CN, after_CN = _samples(client, take), _samples(client, edited)
    rate_hz = take["sample_rate_hz"]
    outside = round(0.3 * rate_hz)
    assert np.array_equal(before_CN[:, :outside], after_CN[:, :outside])
    assert not np.array_equal(before_CN, after_CN)

    export = client.finish(client.submit("export", take=edited["id"], format="mov")["id"])
    assert re.fullmatch(r"My Film\.2\.mov", export["file"]["name"])
    assert len(client.bytes(export["file"]["url"])) == export["file"]["bytes"]
    assert _refused(422, client, "POST", "/v1/jobs", {**asked, "kind": "edit", "ranges": [[5, 6]]})
    client.json("DELETE", f"/v1/jobs/{job['id']}")
    _refused(404, client, "GET", take["sound"])
    assert not list(server.settings.folder.glob(f"jobs/{job['id']}"))


def test_events_tell_a_job_up_to_its_end_and_then_no_more(client: Client) -> None:
    job_id = client.submit(prompt="rain", duration_s=0.3)["id"]
    told = list(client.follow(job_id))
    assert [job["id"] for job in told] == [job_id] * len(told)
    assert told[-1]["state"] == "done"
    fractions = [job["fraction"] for job in told]
    assert fractions == sorted(fractions)
    client._headers["Last-Event-ID"] = f"{job_id}-done"
    with client.open("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.status == 204


def test_cancelling_frees_the_device(client: Client) -> None:
    running = client.submit(prompt="rain", duration_s=120, steps=1000)["id"]
    waiting = client.submit(prompt="rain", duration_s=0.2)["id"]
    wait_until(lambda: client.json("GET", f"/v1/jobs/{running}")["fraction"] > 0)
    assert client.json("GET", f"/v1/jobs/{waiting}")["position"] == 1
    client.json("DELETE", f"/v1/jobs/{running}")
    wait_until(lambda: client.json("GET", f"/v1/jobs/{waiting}")["state"] != "waiting", 10)
    assert client.json("GET", f"/v1/jobs/{running}")["state"] == "cancelled"
    assert client.finish(waiting)["state"] == "done"


def test_the_call_that_waits_answers_with_sound_and_leaves_nothing(
    client: Client, server: ServerThread
) -> None:
    before = len(list(server.settings.folder.glob("jobs/*")))
    body = json.dumps({"prompt": "rain", "duration_s": 0.25, "seed": 3}).encode()
    with client.open("POST", "/v1/audio/generate", body, "application/json") as answer:
        samples_N, rate_hz = soundfile.read(io.BytesIO(answer.read()))
        assert answer.headers["x-seed"] == "3"
    assert len(samples_N) == rate_hz / 4
    for _ in range(50):
        if len(list(server.settings.folder.glob("jobs/*"))) == before:
            break
        time.sleep(0.02)
    assert len(list(server.settings.folder.glob("jobs/*"))) == before


@pytest.mark.parametrize(
    ("status", "said", "body"),
    [
        (422, "nothing to generate from", {"kind": "generate"}),
        (422, "duration_s", {"kind": "generate", "prompt": "rain", "duration_s": 500}),
        (422, "expected one of generate", {"kind": "dance"}),
        (422, "Extra inputs", {"kind": "generate", "prompt": "rain", "path": "/etc/passwd"}),
        (422, "media", {"kind": "generate", "media": "/etc/passwd"}),
        (404, "no such upload", {"kind": "generate", "media": "0" * 32}),
        (404, "no such take", {"kind": "export", "take": f"{'0' * 32}-1", "format": "wav"}),
        (422, "takes", {"kind": "generate", "prompt": "rain", "takes": 99}),
        (422, "prompt", {"kind": "generate", "prompt": "x" * 5000}),
        (422, "leave_out", {"kind": "generate", "prompt": "rain", "leave_out": ["dog"]}),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    client: Client, status: int, said: str, body: Any
) -> None:
    assert said in _refused(status, client, "POST", "/v1/jobs", body)


def test_uploads_that_are_no_media_or_too_large_leave_nothing(
    client: Client, server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(server.settings.folder / "tmp"))
    before = sorted(server.settings.folder.glob("media/*"))
    for data in (b"", b"<html><script>alert(1)</script>", b"\0" * 1000, b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ServerError) as refusal:
            client.upload("x.mp4", data)
        assert refusal.value.status == 422
    browser = TestClient(server.app, base_url=server.address)
    refused = browser.post("/v1/media", files={"file": ("x.mp4", bytes(6_000_000))})
    assert refused.status_code == 413
    assert "larger than this server accepts" in refused.json()["error"]["message"]
    assert sorted(server.settings.folder.glob("media/*")) == before
    assert not list(server.settings.folder.glob("tmp/*"))


def test_a_sound_can_be_edited_without_a_film(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_audio(path, tone(440, duration_s=1.0))
    media = client.upload("tone.wav", path.read_bytes())
    assert media["kind"] == "sound"
    assert media["strip"] is None
    asked = {"media": media["id"], "ranges": [[0.5, 0.7]], "prompt": "rain"}
    assert client.finish(client.submit("edit", **asked)["id"])["state"] == "done"
    wrong = {"kind": "generate", "media": media["id"]}
    assert "no picture" in _refused(422, client, "POST", "/v1/jobs", wrong)


def test_health_model_metrics_and_openapi_are_told(client: Client) -> None:
    assert client.json("GET", "/v1/health")["status"] == "ready"
    told = client.json("GET", "/v1/model")
    assert told["name"] == "tiny"
    assert told["steps"] == 3
    assert {"name": "dog", "examples": ["a dog barks"]} in told["kinds"]
    assert b"omni2sound_jobs_accepted_total" in client.bytes("/metrics")
    paths = client.json("GET", "/openapi.json")["paths"]
    assert {"/v1/jobs", "/v1/media", "/v1/audio/generate", "/v1/jobs/{job_id}/events"} <= set(paths)


@pytest.mark.slow
def test_a_film_that_browsers_do_not_play_has_a_proxy(client: Client, tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", [Sound(audio=tone(440))])
    media = client.upload("film.mkv", path.read_bytes())
    proxy = tmp_path / "proxy.mp4"
    proxy.write_bytes(client.bytes(media["proxy"]))
    info = probe(proxy)
    assert info.video is not None
    assert (info.video.codec, info.video.duration_s) == ("h264", 1)
    audio = read_audio(proxy)
    assert levels(audio, 440)[0][0] == pytest.approx(levels(tone(440), 440)[0][0], rel=0.05)


def test_an_export_takes_what_it_needs_and_nothing_else(
    client: Client, film: bytes, server: ServerThread
) -> None:
    media = client.upload("film.mp4", film)["id"]
    asked = {"media": media, "prompt": "rain", "seen": "off", "seed": 5, "end_s": 0.2, "steps": 1}
    take = client.finish(client.submit(**asked)["id"])["takes"][0]["id"]
    for field, value in {
        "bits": 16,
        "keep_audio": True,
        "for": "youtube",
        "reencode": True,
    }.items():
        wrong = {"kind": "export", "take": take, "format": "zip", field: value}
        assert field in _refused(422, client, "POST", "/v1/jobs", wrong)
    packed = client.finish(client.submit("export", take=take, format="zip")["id"])
    assert packed["file"]["name"] == "film.5.zip"
    left = {path.name for path in (server.settings.folder / "jobs" / packed["id"]).iterdir()}
    assert left == {"job.json", "export.zip"}

    client.json("DELETE", f"/v1/media/{media}")
    export = client.finish(client.submit("export", take=take, format="wav")["id"])
    assert export["file"]["name"] == "sound.5.wav"
    _refused(404, client, "POST", "/v1/jobs", {"kind": "export", "take": take, "format": "mp4"})


def test_an_edit_says_that_the_film_was_not_looked_at(client: Client, film: bytes) -> None:
    media = client.upload("film.mp4", film)["id"]
    asked = {"media": media, "prompt": "rain", "seen": "off", "start_s": 0.5, "steps": 1}
    take = client.finish(client.submit(**asked)["id"])["takes"][0]["id"]
    again = {"take": take, "ranges": [[0.1, 0.3]], "prompt": "rain", "steps": 1}
    job = client.finish(client.submit("edit", **again)["id"])
    assert "was not looked at" in "".join(job["notes"])
    assert job["notes"] == job["takes"][0]["notes"]


def test_a_take_of_a_still_picture_has_no_film(client: Client) -> None:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "green").save(data, format="png")
    media = client.upload("garden.png", data.getvalue())["id"]
    asked = {"media": media, "prompt": "rain", "seen": "off", "duration_s": 0.2, "steps": 1}
    take = client.finish(client.submit(**asked)["id"])["takes"][0]
    assert (take["media"], take["video"]) == (media, None)
    _refused(409, client, "GET", f"/v1/takes/{take['id']}/video.mp4")
    wrong = {"kind": "export", "take": take["id"], "format": "mp4"}
    assert "format" in _refused(422, client, "POST", "/v1/jobs", wrong)


def test_the_page_runs_only_its_own_scripts(client: Client) -> None:
    with client.open("GET", "/") as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/assets/../app.py", "/assets/%2e%2e%2fapp.py", "/assets/x.py", "/assets/.js"):
        assert "404" in _refused(404, client, "GET", path)


@pytest.mark.slow
def test_stems_of_a_take_add_up_to_it_and_are_mixed_anew(client: Client) -> None:
    cue = {"from_s": 0.1, "to_s": 0.4, "prompt": "a dog barks"}
    asked = {"prompt": "rain", "cues": [cue], "duration_s": 0.5, "seed": 3}
    plain = client.finish(client.submit(**asked)["id"])["takes"][0]
    assert plain["stems"] == []
    job = client.finish(client.submit("stems", take=plain["id"])["id"])
    take = job["takes"][0]
    assert job["stems"] == take["stems"]
    assert [stem["name"] for stem in take["stems"]] == ["a-dog-barks", "rest"]
    total_CN = sum(_samples(client, stem) for stem in take["stems"])
    assert np.allclose(total_CN, _samples(client, take), atol=2**-22)
    again = client.finish(client.submit("stems", take=take["id"])["id"])
    assert again["stems"] == take["stems"]
    assert again["takes"] == []

    dog, rest = take["stems"]
    assert client.json("GET", dog["peaks"])["per_second"] == 50
    mix = {rest["id"]: {"mute": True}, "a-dog-barks": {"gain_db": -6.0}}
    export = client.submit("export", take=take["id"], format="wav", bits=32, mix=mix)
    file = client.finish(export["id"])["file"]
    mixed_N, _ = soundfile.read(io.BytesIO(client.bytes(file["url"])), dtype="float32")
    assert np.allclose(mixed_N, _samples(client, dog)[0] * 10 ** (-6 / 20), atol=2**-22)
    packed = client.finish(client.submit("export", take=take["id"], format="zip")["id"])["file"]
    with zipfile.ZipFile(io.BytesIO(client.bytes(packed["url"]))) as archive:
        names = archive.namelist()
    assert {"take-1.wav", "take-1/rest.wav", "timeline.otio", "markers.csv"} <= set(names)
    anew = client.finish(client.submit("stems", take=take["id"], anew="a-dog-barks", seed=9)["id"])
    assert anew["takes"][0]["edited"] == take["id"]
    assert np.array_equal(_samples(client, anew["stems"][1]), _samples(client, rest))
    assert not np.array_equal(_samples(client, anew["stems"][0]), _samples(client, dog))
    edit = client.submit("edit", take=take["id"], ranges=[[0.2, 0.3]], prompt="rain", seed=2)
    mended = client.finish(edit["id"])["takes"][0]
    assert [stem["anew"] for stem in mended["stems"]] == [True, True, False]
    total_CN = sum(_samples(client, stem) for stem in mended["stems"])
    assert np.allclose(total_CN, _samples(client, mended), atol=2**-22)
    wrong = {"kind": "export", "take": take["id"], "format": "wav", "mix": {"cat": {}}}
    assert "there is no 'cat'" in _refused(422, client, "POST", "/v1/jobs", wrong)
    _refused(404, client, "GET", f"/v1/takes/{take['id']}/stems/mix/sound.wav")
