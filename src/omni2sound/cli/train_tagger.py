"""`omni2sound train tagger`: the second judge, on the recordings of the stage corpus.

In:   the corpus, a model whose autoencoder gives recordings back as generated sounds are.
Out:  a model folder that holds the tagger alone, for `--judge` of evaluations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omni2sound.models.autoencoder import AudioVAE

__all__ = ["train_judge"]

_MOST_S = 6.0
"""What is heard of a long recording, from its start."""


def train_judge(corpus: Path, out: Path, parts: str | None, max_minutes: float) -> None:
    """Train and write `out/model`; the arguments are those of the command.

    Raises:
        UserError: If the corpus or the model can't be read.
    """
    from omni2sound.config import to_json
    from omni2sound.generate.model import load_model
    from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
    from omni2sound.scenes.material.licences import attribution_tsv
    from omni2sound.train.tagger import TaggerRecipe, train_tagger
    from omni2sound.weights import save_model

    assets, model = SceneAssets.open(corpus), load_model(parts or "embedded")
    catalogue, most = assets.catalogue, round(_MOST_S * SAMPLE_RATE_HZ)
    recordings = {
        c: [assets.waveform(r.recording_id)[:most] for r in catalogue.recordings_of(c, "train")]
        for c in catalogue.class_ids
        if catalogue.recordings_of(c, "train")
    }
    decoded = {
        c: [_given_back(x_N, model.autoencoder) for x_N in of_class]
        for c, of_class in recordings.items()
    }
    recipe = TaggerRecipe()
    network = train_tagger(recordings, decoded, recipe=recipe, out=out, max_minutes=max_minutes)
    save_model(
        out / "model",
        name="tagger",
        parts={"tagger": to_json(network.config)},
        tensors={"tagger": network.state_dict()},
        defaults={},
        training={
            "catalogue_sha256": catalogue.digest,
            "recipe": to_json(recipe),
            "autoencoder_of": model.sha256,
        },
        attribution=attribution_tsv((r for r in catalogue.recordings if r.split == "train"), ()),
    )


def _given_back(sound_N: NDArray[np.float32], autoencoder: AudioVAE) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        latents_BLC = autoencoder.encode(torch.from_numpy(sound_N.copy())[None])
        decoded_N = autoencoder.decode(latents_BLC)[0, : len(sound_N)]
    return decoded_N.float().numpy()
