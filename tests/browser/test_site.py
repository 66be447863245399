"""Parts keep the numbers, and the server gives its files to pages of this machine alone."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omni2sound.browser.numbers import pack
from omni2sound.browser.site import HOST, site_files, site_server, write_site
from omni2sound.cli.studio.try_page import try_page
from omni2sound.errors import IntegrityError, MissingPartError, UserError


def _field(number: int, data: bytes) -> bytes:
    """A field of a protocol-buffer message, of fewer than 16,384 bytes."""
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data


def _graph(path: Path, arrays: list[tuple[int, int, int]]) -> Path:
    """An ONNX file with arrays of these offsets, lengths and types."""
    tensors = b""
    for offset, length, kind in arrays:
        place = {b"location": b"x.data", b"offset": b"%d" % offset, b"length": b"%d" % length}
        entries = b"".join(_field(13, _field(1, k) + _field(2, v)) for k, v in place.items())
        tensors += _field(5, bytes([2 << 3, kind]) + entries)
    path.write_bytes(_field(7, tensors))
    return path


def test_numbers_are_stored_in_two_or_three_bytes(tmp_path: Path) -> None:
    half, single = np.float16([1, -0.5, 2**-24, 0]), np.float32([1 / 3, 7e-3, -1e-9, 1])
    large = np.float32([1e6, 1, 2, np.nan])
    numbers = tmp_path / "x.data"
    numbers.write_bytes(half.tobytes() + b"pads" + single.tobytes() + large.tobytes() + b"!")
    graph = _graph(tmp_path / "x.onnx", [(28, 16, 1), (0, 8, 10), (12, 16, 1)])
    for halved, kind in ((True, "half"), (False, "fine")):
        packed, spans = pack(graph, numbers, halved=halved)
        assert spans == [(0, 8, "float16"), (8, 4, "raw"), (12, 16, kind), (28, 17, "raw")]
        first = half.view(np.uint8).reshape(-1, 2)
        assert packed.startswith(first[:, 1].tobytes() + first[:, 0].tobytes())
        assert packed.endswith(b"pads" + large.tobytes() + b"!")
        kept = np.frombuffer(packed[8:-21], np.uint8).reshape(-1, 4).T[:, ::-1]
        if halved:
            read = np.ascontiguousarray(kept).view("<f2").ravel()
            np.testing.assert_array_equal(read, single.astype(np.float16))
        else:
            read = np.pad(kept, ((0, 0), (1, 0))).view("<f4").ravel()
            np.testing.assert_allclose(read, single, rtol=2**-16)


def test_numbers_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.data").write_bytes(bytes(12))
    with pytest.raises(IntegrityError, match=r"not those of x\.data"):
        pack(_graph(tmp_path / "x.onnx", [(0, 16, 1)]), tmp_path / "x.data", halved=True)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "index.json").write_text("{}")
    return folder


@pytest.fixture
def port(parts: Path) -> Iterator[int]:
    with site_server(parts, 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _get(port: int, path: str, host: str = HOST, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.request(method, path, headers={"Host": f"{host}:{port}"})
    reply = connection.getresponse()
    made = reply.status, reply.headers.get("Cross-Origin-Embedder-Policy", ""), reply.read()
    connection.close()
    return made


def test_files_come_with_the_headers_that_give_threads(port: int, parts: Path) -> None:
    files = site_files(parts)
    assert _get(port, "/") == (200, "require-corp", files["index.html"].read_bytes())
    assert _get(port, "/parts/index.json?x=1", "localhost") == (200, "require-corp", b"{}")
    assert _get(port, "/worker.js", method="HEAD") == (200, "require-corp", b"")


@pytest.mark.parametrize(
    ("path", "host"),
    [("/", "evil.example"), ("/../pyproject.toml", HOST), ("/build.json", HOST), ("/parts", HOST)],
)
def test_nothing_else_is_given(port: int, path: str, host: str) -> None:
    assert _get(port, path, host)[0] == 404


def test_a_site_is_written_and_replaced_but_nothing_else(parts: Path, tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    assert write_site(parts, site) == write_site(parts, site)
    assert (site / "parts" / "index.json").read_text() == "{}"
    assert not (site / "build.json").exists()
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is no site"):
        write_site(parts, other)


def test_without_an_export_the_command_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path))
    with pytest.raises(MissingPartError, match="run: omni2sound setup"):
        try_page(port=0, to=tmp_path / "site")
