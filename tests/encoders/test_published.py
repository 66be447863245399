"""Files of others: found or refused, read without running them, used up or named."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from omni2sound.encoders.published import (
    CLIP,
    FLAN_T5,
    RELEASES,
    SYNCHFORMER,
    PublishedFile,
    Release,
    fill,
    read_checkpoint,
    resolve,
)
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError

REVISION = "0123456789abcdef0123456789abcdef01234567"
SMALL = Release(
    title="small",
    needed_for="a test",
    files=(PublishedFile(name="weights.pth"),),
    licence="MIT",
    url="https://example.org/weights.pth",
)


def test_a_folder_with_the_files_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    assert resolve(SMALL, tmp_path) == tmp_path


def test_what_a_folder_lacks_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"lacks weights.pth; get it from https://example"):
        resolve(SMALL, tmp_path)


@pytest.mark.parametrize("source", ["google/flan-t5-base", "nowhere", "org/name@"])
def test_a_hub_id_without_a_revision_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="40 hex digits"):
        resolve(FLAN_T5, source)


def test_a_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / SYNCHFORMER.files[0].name).write_bytes(b"not the published one")
    with pytest.raises(IntegrityError, match="md5"):
        resolve(SYNCHFORMER, tmp_path)


def test_the_beginning_of_a_digest_is_enough(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"abc")  # sha256 ba7816bf...
    known = replace(SMALL, files=(PublishedFile(name="weights.pth", digest="sha256:ba7816bf"),))
    assert resolve(known, tmp_path) == tmp_path


@pytest.mark.parametrize("release", RELEASES.values(), ids=lambda r: r.title)
def test_every_release_says_its_terms(release: Release) -> None:
    said = release.describe()
    assert release.licence in said
    assert "gated" in said
    assert all(file.name in said for file in release.files)


@pytest.mark.slow
def test_a_download_is_described_before_it_fails_offline(tmp_path: Path) -> None:
    """As a process: the Hub's library reads its offline switch when it is imported."""
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from omni2sound.encoders.published import CLIP, resolve\n"
        f"resolve(CLIP, 'apple/DFN5B-CLIP-ViT-H-14-384@{REVISION}')"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMNI2SOUND_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    said, failed = done.stderr.split("Traceback")
    assert CLIP.describe() in said
    assert "3,947 MB" in said
    last = failed.strip().splitlines()[-1]
    assert "MissingPartError" in last
    assert "give a folder with open_clip_pytorch_model.bin" in last


def test_what_is_in_the_cache_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path))
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "weights.pth").write_bytes(b"x")
    assert resolve(SMALL, f"org/name@{REVISION}") == snapshot
    assert "downloading" not in caplog.text


def test_a_checkpoint_with_counters_of_its_training_is_read(tmp_path: Path) -> None:
    weights = {"layer.weight": torch.randn(2, 3)}
    sampler = {"indexes": np.arange(4), "pointer": np.float64(0.5)}
    torch.save({"model": weights, "sampler": sampler, "iteration": 3}, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth", inside="model")
    torch.testing.assert_close(found, weights)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_a_checkpoint_with_code_in_it_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "more": _Code()}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"more": _Code()}, protocol=2))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(ConfigError, match="could run code"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    whole = tmp_path / f"whole{Path(name).suffix}"
    if whole.suffix == ".pth":
        torch.save({"a": torch.zeros(1000)}, whole)
    else:
        save_file({"a": torch.zeros(1000)}, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    with pytest.raises(ConfigError, match="not a table of tensors"):
        read_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "tensor", [torch.eye(3).to_sparse(), torch.eye(3, device="meta")], ids=["sparse", "meta"]
)
def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "c.pth")
    with pytest.raises(ConfigError, match=r"not a table of tensors: a;|can't be read"):
        read_checkpoint(tmp_path / "c.pth")


@given(st.sets(st.sampled_from(["weight", "bias"])), st.booleans(), st.booleans())
def test_only_the_whole_network_is_accepted(
    missing: set[str], has_more: bool, has_unneeded: bool
) -> None:
    network = nn.Linear(3, 2)
    tensors = {k: torch.randn_like(v) for k, v in network.state_dict().items() if k not in missing}
    tensors |= {"more": torch.zeros(1)} if has_more else {}
    tensors |= {"head.weight": torch.zeros(1)} if has_unneeded else {}
    if not missing and not has_more:
        fill(network, tensors, title="t", not_needed=("head.",))
        assert torch.equal(network.weight, tensors["weight"])
        return
    before = network.weight.clone()
    with pytest.raises(ConfigError) as caught:
        fill(network, tensors, title="t", not_needed=("head.",))
    said = str(caught.value)
    assert set(re.findall(r"missing (\w+)", said)) == missing
    assert ("left over more" in said) == has_more
    assert torch.equal(network.weight, before)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ConfigError, match=r"weight is \(3, 2\), expected \(2, 3\)"):
        fill(nn.Linear(3, 2), {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, title="t")


def test_the_documents_list_every_file_with_its_terms() -> None:
    text = (Path(__file__).parents[2] / "docs" / "guides" / "full-size.md").read_text(
        encoding="utf-8"
    )
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for release in RELEASES.values():
        for file in release.files:
            row = next((r for r in rows if f"`{file.name}`" in r and release.title in r), None)
            assert row is not None, f"docs/guides/full-size.md lacks {release.title}: {file.name}"
            assert release.licence in row
            assert release.url in row
            size = "not known here" if file.size_bytes is None else f"{file.size_bytes:,}"
            assert size in row
            digest = file.digest or "not known here"
            assert digest.split(":")[-1] in row


def test_a_part_of_a_repository_that_is_in_the_cache_is_not_announced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a download the Hub's library knows all files of the repository, and we want a few."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path))
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "snapshots" / REVISION).mkdir(parents=True)
    (repository / "snapshots" / REVISION / "weights.pth").write_bytes(b"x")
    (repository / "trees").mkdir()
    entry = {"size": 1, "blob_id": "0" * 40, "lfs_sha256": None, "lfs_size": None, "xet_hash": None}
    files = {"weights.pth": entry, "of-no-interest.bin": entry}
    listing = {"format_version": 1, "files": files}
    (repository / "trees" / f"{REVISION}.json").write_text(json.dumps(listing))
    assert resolve(SMALL, f"org/name@{REVISION}") == repository / "snapshots" / REVISION
    assert "downloading" not in caplog.text
