"""Reader of `model_config.json` files of the stable-audio-tools family.

In:   the JSON of a `diffusion_cond` model, or of an autoencoder alone.
Out:  a `PipelineConfig`, and the checkpoint's names of conditions.

Reading is strict: unknown settings could change the computation, and are refused by name;
training settings are skipped. What not to get wrong: the order of the seconds in the global
vector matters; the order of tokens in cross-attention does not, as it has no positions.

UNVERIFIED: the sync path's settings follow the sibling release CineDub (commit c2914cd).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omni2sound.convert.names import ConditionNames
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.model import PipelineConfig
from omni2sound.generate.request import Defaults
from omni2sound.models.dit import RELEASED, DiTConfig
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig
from omni2sound.timebase import TimeBase

DEFAULTS = Defaults(steps=100, guidance=2.5, duration_s=10.0, max_duration_s=10.0)
"""Settings with which third parties run the released model."""
_SAMPLERS = {
    "v": SamplerConfig(kind="dpmpp-2m-sde", sigma_min=0.03, sigma_max=1000.0),
    "rectified_flow": SamplerConfig(kind="euler"),
}
_TEXT_DIMS = {"google/flan-t5-base": 768}
_UNREAD = ("training", "sample_size", "version", "name")
"""Skipped top-level settings, about training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """Content of a `model_config.json`.

    Attributes:
        config: Settings of our model.
        names: Names of conditions in the checkpoint.
        latent_scale: Divisor of latents, beyond the autoencoder itself.
        defaults: Defaults of requests.
    """

    config: PipelineConfig
    names: ConditionNames
    latent_scale: float
    defaults: Defaults


class _Settings:
    """A JSON object whose every key must be taken."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"model_config.json: {where} must be an object, got {data!r:.80}")
        self._data, self._where = dict(data), where

    def take(self, key: str, *default: Any) -> Any:
        """Take the value of a key, or the default if there is one."""
        if key not in self._data and not default:
            raise ConfigError(f"model_config.json: {self._where} has no {key!r:.80}")
        return self._data.pop(key, *default)

    def within(self, key: str) -> _Settings:
        """Take the object under a key."""
        return _Settings(self.take(key), f"{self._where}.{key}")

    def expect(self, key: str, *allowed: Any) -> Any:
        """Take a value that must be one of these; if missing, it is the first."""
        value = self.take(key, allowed[0])
        if value not in allowed:
            raise ConfigError(
                f"model_config.json: {self._where}.{key} is {value!r:.80}; "
                f"this layout knows {', '.join(map(repr, allowed))}"
            )
        return value

    def end(self) -> None:
        """Check that every setting was taken.

        Raises:
            ConfigError: If settings are left; all are named.
        """
        if self._data:
            unknown = ", ".join(f"{self._where}.{key}" for key in sorted(self._data))
            raise ConfigError(f"model_config.json: unknown settings: {unknown}")


def read_settings(data: Any) -> Released:
    """Read the `model_config.json` of a model.

    Raises:
        ConfigError: A setting is missing, unknown, or not of this layout.
    """
    try:
        return _read_model(data)
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise ConfigError(f"model_config.json: a value is of the wrong type: {error}") from None


def _read_model(data: Any) -> Released:
    model, rate = _open(data, "diffusion_cond")
    autoencoder, latent_scale = _read_autoencoder(model.within("pretransform"), rate)
    model.expect("io_channels", autoencoder.latent_dim)
    diffusion = model.within("diffusion")
    conditioner, names = _read_conditioning(model.within("conditioning"), diffusion)
    model.end()
    dit, objective = _read_diffusion(diffusion, conditioner, autoencoder.latent_dim)
    config = PipelineConfig(
        timebase=TimeBase(
            sample_rate_hz=rate,
            hop_samples=autoencoder.hop_samples,
            vision_fps=conditioner.vision_fps,
        ),
        dit=dit,
        objective=Objective(kind="v" if objective == "v" else "rectified"),
        sampler=_SAMPLERS[objective],
        autoencoder=autoencoder,
        sync=SynchformerPart(feature_dim=conditioner.sync_dim or 768),
        text=TextPart(encoder="flan-t5-base"),
        vision=VisionPart(encoder="dfn5b-clip-vit-h-14-384"),
    )
    return Released(config=config, names=names, latent_scale=latent_scale, defaults=DEFAULTS)


def read_autoencoder_settings(data: Any) -> OobleckConfig:
    """Read the `model_config.json` of an autoencoder.

    Raises:
        ConfigError: A setting is missing, unknown, or not of this layout.
    """
    model, rate = _open(data, "autoencoder")
    return _read_oobleck(model, rate)


def _open(data: Any, kind: str) -> tuple[_Settings, int]:
    """Settings of the model and its sample rate."""
    top = _Settings(data, "the file")
    top.expect("model_type", kind)
    rate = int(top.take("sample_rate"))
    top.expect("audio_channels", 1)
    for key in _UNREAD:
        top.take(key, None)
    model = top.within("model")
    top.end()
    return model, rate


def _read_autoencoder(settings: _Settings, rate: int) -> tuple[OobleckConfig, float]:
    settings.expect("type", "autoencoder")
    for key in ("iterate_batch", "chunked", "model_half"):  # they change memory, not results
        settings.take(key, None)
    scale = float(settings.take("scale", 1.0))
    inner = settings.within("config")
    settings.end()
    return _read_oobleck(inner, rate), scale


def _read_oobleck(inner: _Settings, rate: int) -> OobleckConfig:
    sides = {}
    for side, channels_key in (("encoder", "in_channels"), ("decoder", "out_channels")):
        part = inner.within(side)
        part.expect("type", "oobleck")
        sizes = part.within("config")
        part.end()
        sizes.expect(channels_key, 1)
        sizes.expect("use_snake", True)
        sizes.expect("antialias_activation", False)
        if side == "decoder":
            sizes.expect("use_nearest_upsample", False)
            if sizes.take("final_tanh", True):
                raise ConfigError(
                    "model_config.json: the decoder ends in a tanh (final_tanh); "
                    "this layout's does not"
                )
        sides[side] = tuple(
            sizes.take(key) for key in ("channels", "c_mults", "strides", "latent_dim")
        )
        sizes.end()
    bottleneck = inner.within("bottleneck")
    bottleneck.expect("type", "vae")
    bottleneck.end()
    channels, multiples, strides, latent_dim = sides["decoder"]
    if sides["encoder"] != (channels, multiples, strides, 2 * latent_dim):
        raise ConfigError(
            f"model_config.json: encoder {sides['encoder']} and decoder {sides['decoder']} "
            "(channels, c_mults, strides, latent_dim) do not match"
        )
    config = OobleckConfig(
        sample_rate_hz=rate,
        channels=channels,
        multiples=tuple(multiples),
        strides=tuple(strides),
        latent_dim=latent_dim,
    )
    inner.expect("latent_dim", config.latent_dim)
    inner.expect("downsampling_ratio", config.hop_samples)
    inner.expect("io_channels", 1)
    inner.end()
    return config


def _read_conditioning(
    settings: _Settings, diffusion: _Settings
) -> tuple[ReleasedConditionerConfig, ConditionNames]:
    token_dim = int(settings.take("cond_dim"))
    listed = settings.take("configs")
    settings.end()
    crossed = list(diffusion.take("cross_attention_cond_ids"))
    globals_ = list(diffusion.take("global_cond_ids"))
    additional = list(diffusion.take("additional_cond_ids", []))
    config = ReleasedConditionerConfig(vision_dim=0, sync_dim=0, token_dim=token_dim)
    names: dict[str, str] = {}
    absences = set()
    longest: dict[str, float] = {}
    for entry in listed:
        one = _Settings(entry, "conditioning.configs[]")
        name, kind, sizes = str(one.take("id")), one.take("type"), one.within("config")
        one.end()
        sizes.take("option", None)
        if kind == "t5":
            names["text"] = name
            # No default: the family's own is another encoder (t5-base) than this layout's.
            encoder = sizes.take("t5_model_name")
            if encoder not in _TEXT_DIMS:
                raise ConfigError(
                    f"model_config.json: t5_model_name is {encoder!r:.80}; "
                    f"this layout knows {', '.join(map(repr, _TEXT_DIMS))}"
                )
            sizes.expect("max_length", 128)
            config = replace(config, text_dim=_TEXT_DIMS[encoder])
        elif kind == "number" and name in ("seconds_start", "seconds_total"):
            sizes.expect("min_val", 0)
            longest[name] = float(sizes.take("max_val"))
            config = replace(config, max_seconds=longest[name])
            names[name] = name
        elif kind == "post_process" and name in crossed:
            names["vision"] = name
            fps, seconds = sizes.take("frame_per_second"), sizes.take("max_duration")
            sizes.expect("use_abs_pos_emb", True)
            absences.add(bool(sizes.take("use_learnable_mask", False)))
            config = replace(
                config,
                vision_dim=sizes.take("feature_dim"),
                vision_fps=fps,
                max_pictures=int(fps * seconds),
            )
        elif kind == "post_process" and name in additional:
            names["sync"] = name
            sizes.expect("frame_per_second", 24)
            sizes.expect("target_per_second", 25)
            sizes.take("max_duration", None)
            sizes.expect("use_abs_pos_emb", False)
            absences.add(bool(sizes.take("use_learnable_mask", False)))
            config = replace(config, sync_dim=sizes.take("feature_dim"))
        else:
            raise ConfigError(
                f"model_config.json: condition {name!r:.80} of type {kind!r:.80} is not known here"
            )
        sizes.end()
    if len(absences) > 1:
        raise ConfigError("model_config.json: use_learnable_mask differs between video conditions")
    if len(set(longest.values())) > 1:
        raise ConfigError(
            f"model_config.json: max_val differs between the seconds: {longest}; "
            "this layout has one for both"
        )
    wanted = [names.get(k, k) for k in ("vision", "text", "seconds_start", "seconds_total")]
    if sorted(crossed) != sorted(n for n in wanted if n in names.values()) or "text" not in names:
        raise ConfigError(
            f"model_config.json: cross_attention_cond_ids are {crossed}; "
            "expected text, the seconds and (if there are any) pictures"
        )
    if globals_ != ["seconds_start", "seconds_total"]:
        raise ConfigError(
            f"model_config.json: global_cond_ids are {globals_}; "
            "expected seconds_start, seconds_total"
        )
    if additional != ([names["sync"]] if "sync" in names else []):
        raise ConfigError(f"model_config.json: additional_cond_ids {additional} are not known here")
    return replace(config, learned_absence=True in absences), ConditionNames(**names)


def _read_diffusion(
    settings: _Settings, conditioner: ReleasedConditionerConfig, latent_dim: int
) -> tuple[DiTConfig, str]:
    settings.expect("type", "dit")
    objective: str = settings.expect("diffusion_objective", *_SAMPLERS)
    sizes = settings.within("config")
    for key in ("add_cross_attention_cond_ids", "prepend_cond_ids", "input_concat_ids"):
        settings.expect(key, [])
    settings.end()
    objective = sizes.expect("diffusion_objective", objective)
    sizes.expect("io_channels", latent_dim)
    sizes.expect("patch_size", 1)
    sizes.expect("cond_token_dim", conditioner.token_dim)
    sizes.expect("global_cond_dim", 2 * conditioner.token_dim)
    sizes.expect("additional_cond_dim", conditioner.token_dim if conditioner.sync_dim else 0)
    for key in ("project_cond_tokens", "project_global_cond", "project_additional_tokens"):
        projected = sizes.take(key, True)
        # Without tokens to project, the family writes either.
        if not projected and (key != "project_additional_tokens" or conditioner.sync_dim):
            raise ConfigError(f"model_config.json: {key} is off; this layout projects")
    sizes.expect("transformer_type", "continuous_transformer")
    sizes.expect("global_cond_type", "prepend")
    sizes.expect("timestep_cond_type", "global")
    width, heads = sizes.take("embed_dim"), sizes.take("num_heads")
    if width % heads or width // heads < 64 or (width // heads) % 4:
        raise ConfigError(
            f"model_config.json: embed_dim {width} over num_heads {heads}; heads of this layout "
            "have 64 dimensions or more (rotary positions take 32 at least)"
        )
    config = replace(
        RELEASED,
        latent_dim=latent_dim,
        width=width,
        depth=sizes.take("depth"),
        num_heads=heads,
        conditioner=conditioner,
    )
    sizes.end()
    return config, objective
