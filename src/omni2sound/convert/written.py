"""The way back: a model of the released layout as a `model_config.json`.

In:   a `PipelineConfig`.
Out:  JSON that `settings.read_settings` reads as the same model (a test compares them).

What not to get wrong: names of conditions are free, but must be those under which the tensors
are written (`names.ConditionNames`).
"""

from __future__ import annotations

from typing import Any

from omni2sound.convert.names import ConditionNames
from omni2sound.convert.settings import DEFAULTS
from omni2sound.errors import ConfigError
from omni2sound.generate.model import PipelineConfig
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig


def write_settings(config: PipelineConfig, *, latent_scale: float = 1.0) -> dict[str, Any]:
    """Describe a model of the released layout as a `model_config.json`.

    Raises:
        ConfigError: The model is of another layout.
    """
    dit, conditioner, vae = config.dit, config.dit.conditioner, config.autoencoder
    if not isinstance(conditioner, ReleasedConditionerConfig) or not isinstance(vae, OobleckConfig):
        raise ConfigError("only a model of the released layout can be written back in it")
    names = ConditionNames()
    sizes: dict[str, Any] = {
        "io_channels": dit.latent_dim,
        "embed_dim": dit.width,
        "depth": dit.depth,
        "num_heads": dit.num_heads,
        "cond_token_dim": conditioner.token_dim,
        "global_cond_dim": 2 * conditioner.token_dim,
        "project_cond_tokens": True,
        "transformer_type": "continuous_transformer",
    }
    diffusion: dict[str, Any] = {
        "global_cond_ids": [names.seconds_start, names.seconds_total],
        "diffusion_objective": "v" if config.objective.kind == "v" else "rectified_flow",
        "type": "dit",
        "config": sizes,
    }
    crossed = [names.text, names.seconds_start, names.seconds_total]
    if conditioner.vision_dim:
        crossed.insert(0, names.vision)
    if conditioner.sync_dim:
        diffusion["additional_cond_ids"] = [names.sync]
        sizes |= {
            "additional_cond_dim": conditioner.token_dim,
            "project_additional_tokens": True,
        }
    diffusion["cross_attention_cond_ids"] = crossed
    return {
        "model_type": "diffusion_cond",
        "sample_size": int(DEFAULTS.max_duration_s * vae.sample_rate_hz),
        "sample_rate": vae.sample_rate_hz,
        "audio_channels": 1,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "scale": latent_scale,
                "config": _autoencoder_settings(vae),
            },
            "conditioning": {
                "configs": _condition_settings(conditioner, names),
                "cond_dim": conditioner.token_dim,
            },
            "diffusion": diffusion,
            "io_channels": dit.latent_dim,
        },
    }


def _condition_settings(
    conditioner: ReleasedConditionerConfig, names: ConditionNames
) -> list[dict[str, Any]]:
    text = {"t5_model_name": "google/flan-t5-base", "max_length": 128}
    listed: list[dict[str, Any]] = [{"id": names.text, "type": "t5", "config": text}]
    for name in (names.seconds_start, names.seconds_total):
        limits = {"min_val": 0, "max_val": conditioner.max_seconds}
        listed.append({"id": name, "type": "number", "config": limits})
    video = {"max_duration": conditioner.max_pictures / conditioner.vision_fps}
    if conditioner.learned_absence:
        video["use_learnable_mask"] = True
    if conditioner.vision_dim:
        pictures = {
            "frame_per_second": conditioner.vision_fps,
            "feature_dim": conditioner.vision_dim,
            "use_abs_pos_emb": True,
        }
        listed.append({"id": names.vision, "type": "post_process", "config": pictures | video})
    if conditioner.sync_dim:
        frames = {
            "frame_per_second": 24,
            "target_per_second": 25,
            "feature_dim": conditioner.sync_dim,
        }
        listed.append({"id": names.sync, "type": "post_process", "config": frames | video})
    return listed


def _autoencoder_settings(vae: OobleckConfig) -> dict[str, Any]:
    shape = {
        "channels": vae.channels,
        "c_mults": list(vae.multiples),
        "strides": list(vae.strides),
        "use_snake": True,
    }
    encoder = {"in_channels": 1, "latent_dim": 2 * vae.latent_dim, **shape}
    decoder = {"out_channels": 1, "latent_dim": vae.latent_dim, "final_tanh": False, **shape}
    return {
        "encoder": {"type": "oobleck", "config": encoder},
        "decoder": {"type": "oobleck", "config": decoder},
        "bottleneck": {"type": "vae"},
        "latent_dim": vae.latent_dim,
        "downsampling_ratio": vae.hop_samples,
        "io_channels": 1,
    }
