"""The way back: a model of the released layout as a `model_config.json`.

In:   a `PipelineConfig`.
Out:  JSON that `settings.read_settings` reads as the same model (a test holds them together).

What not to get wrong: names of conditions are ours to choose, and must be those that the
tensors are written under (`names.ConditionNames`).
"""

from __future__ import annotations

from typing import Any

from omni2sound.convert.names import ConditionNames
from omni2sound.convert.settings import DEFAULTS
from omni2sound.errors import ConfigError
from omni2sound.generate.model import PipelineConfig
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig

__all__ = ["write_settings"]


def write_settings(config: PipelineConfig, *, latent_scale: float = 1.0) -> dict[str, Any]:
    """A `model_config.json` for a model of the released layout.

    Raises:
        ConfigError: The model is of another layout.
    """
    dit, conditioner, vae = config.dit, config.dit.conditioner, config.autoencoder
    if not isinstance(conditioner, ReleasedConditionerConfig) or not isinstance(vae, OobleckConfig):
        raise ConfigError("only a model of the released layout can be written back in it")
    shape = {
        "channels": vae.channels,
        "c_mults": list(vae.multiples),
        "strides": list(vae.strides),
        "use_snake": True,
    }
    token_dim, names = conditioner.token_dim, ConditionNames()
    listed: list[dict[str, Any]] = [
        {
            "id": names.text,
            "type": "t5",
            "config": {"t5_model_name": "google/flan-t5-base", "max_length": 128},
        }
    ]
    crossed = [names.text, names.seconds_start, names.seconds_total]
    for name in (names.seconds_start, names.seconds_total):
        limits = {"min_val": 0, "max_val": conditioner.max_seconds}
        listed.append({"id": name, "type": "number", "config": limits})
    sizes: dict[str, Any] = {
        "io_channels": dit.latent_dim,
        "embed_dim": dit.width,
        "depth": dit.depth,
        "num_heads": dit.num_heads,
        "cond_token_dim": token_dim,
        "global_cond_dim": 2 * token_dim,
        "project_cond_tokens": True,
        "transformer_type": "continuous_transformer",
    }
    diffusion: dict[str, Any] = {
        "global_cond_ids": [names.seconds_start, names.seconds_total],
        "diffusion_objective": "v" if config.objective.kind == "v" else "rectified_flow",
        "type": "dit",
        "config": sizes,
    }
    learned = {"use_learnable_mask": True} if conditioner.learned_absence else {}
    if conditioner.vision_dim:
        crossed.insert(0, names.vision)
        pictures = {
            "frame_per_second": conditioner.vision_fps,
            "feature_dim": conditioner.vision_dim,
            "use_abs_pos_emb": True,
            "max_duration": conditioner.max_pictures / conditioner.vision_fps,
        }
        listed.append({"id": names.vision, "type": "post_process", "config": pictures | learned})
    if conditioner.sync_dim:
        diffusion["additional_cond_ids"] = [names.sync]
        sizes |= {"additional_cond_dim": token_dim, "project_additional_tokens": True}
        frames = {
            "frame_per_second": 24,
            "target_per_second": 25,
            "feature_dim": conditioner.sync_dim,
            "max_duration": conditioner.max_pictures / conditioner.vision_fps,
        }
        listed.append({"id": names.sync, "type": "post_process", "config": frames | learned})
    diffusion["cross_attention_cond_ids"] = crossed
    pretransform: dict[str, Any] = {
        "type": "autoencoder",
        "scale": latent_scale,
        "config": {
            "encoder": {
                "type": "oobleck",
                "config": {"in_channels": 1, "latent_dim": 2 * vae.latent_dim, **shape},
            },
            "decoder": {
                "type": "oobleck",
                "config": {
                    "out_channels": 1,
                    "latent_dim": vae.latent_dim,
                    "final_tanh": False,
                    **shape,
                },
            },
            "bottleneck": {"type": "vae"},
            "latent_dim": vae.latent_dim,
            "downsampling_ratio": vae.hop_samples,
            "io_channels": 1,
        },
    }
    return {
        "model_type": "diffusion_cond",
        "sample_size": int(DEFAULTS.max_duration_s * vae.sample_rate_hz),
        "sample_rate": vae.sample_rate_hz,
        "audio_channels": 1,
        "model": {
            "pretransform": pretransform,
            "conditioning": {"configs": listed, "cond_dim": token_dim},
            "diffusion": diffusion,
            "io_channels": dit.latent_dim,
        },
    }
