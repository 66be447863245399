"""`omni2sound train-part` from the shell: each component takes its own options alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound.cli.train.part import train_part
from omni2sound.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("piano", {}, "known: autoencoder, oobleck, band, sync, sync-files, joint, tagger"),
        ("joint", {"init_from": "embedded"}, "joint does not take --init-from"),
        ("joint", {"parts": "embedded"}, "joint does not take --parts"),
        ("sync", {"refit": True}, "sync does not take --refit"),
        ("tagger", {"resume": True}, "tagger does not take --resume"),
        ("sync", {"set_": ["model.channels=4"]}, "sync does not take --set"),
        ("oobleck", {"parts": "embedded"}, "oobleck does not take --parts"),
        ("oobleck", {"set_": ["model.channels"]}, "expected NAME=VALUE"),
        ("autoencoder", {"max_minutes": 0.0}, "must be positive"),
        ("autoencoder", {"device": "cuda"}, "autoencoder does not take --device"),
    ],
)
def test_unfit_options_are_refused(
    tmp_path: Path, name: str, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        train_part(name, tmp_path / "out", tmp_path, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out" / "model").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a model already"):
        train_part("sync", tmp_path / "out", tmp_path)
