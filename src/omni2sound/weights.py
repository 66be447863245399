"""The model folder: safetensors beside a card that says what they are.

    MODEL/
      card.json              configuration of every part, defaults, training, sha256 of each file
      <part>.safetensors     one file per trained part: dit, autoencoder, sync; a large part is
                             <part>-1.safetensors, <part>-2.safetensors, ...
      attribution.tsv        licence and author of every recording and picture learnt from

In:   a name ("embedded"), a folder, or a Hub id with a pinned revision ("org/name@<40 hex>").
Out:  a verified card and tensors. Nothing is ever unpickled, no tensor is ever skipped.

Files are written under temporary names and the card last, so a folder with a card is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.files import atomic_folder, cache_dir, file_sha256, save_tensors
from omni2sound.readers import open_tensors, read_json, read_tensors, read_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FORMAT = 1
"""Version of the folder's layout; other versions are refused."""
CARD = "card.json"
MAX_FILE_BYTES = 15_000_000
"""Tensors of one file, so that a folder can be kept where single files are limited."""
LARGE_FILE_BYTES = 2_000_000_000
"""The same for models too large for a repository of code."""
ATTRIBUTION_FILE = "attribution.tsv"
"""Licence and author of every source of a model or a corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Card:
    """The fields of `card.json`."""

    format: int
    name: str
    """The model's name."""
    parts: Mapping[str, Any]
    """Configuration of each part, as JSON data."""
    defaults: Mapping[str, Any]
    """Settings that a request need not give."""
    training: Mapping[str, Any]
    """How the weights were made; free-form."""
    files: Mapping[str, str]
    """SHA-256 of each file, by its name without suffix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard(_Card):
    """The contents of `card.json`, and what belongs to them."""

    folder: Path
    """The model folder."""
    sha256: str
    """Digest of the whole model: the card's parts and the files' digests."""
    attribution: str
    """Contents of `attribution.tsv`; empty without one."""


def resolve_model(model: str | Path, *, component: str = "") -> Path:
    """The folder of a model given by name, folder or Hub id.

    Args:
        model: The name, folder or Hub id.
        component: The component that is needed, for the message: only models with it are named.

    Raises:
        MissingPartError: If the name or folder is unknown, or the Hub can't be reached.
        UserError: If a Hub id comes without a pinned revision.
    """
    text = str(model)
    shipped = _shipped()
    names = sorted(p.name for p in shipped.iterdir()) if shipped.is_dir() else []
    names = [n for n in names if (shipped / n / CARD).is_file()]
    versions = {int(m[1]): m[0] for n in names if (m := re.fullmatch(r"embedded-v(\d+)", n))}
    if text == "embedded" and versions:
        return shipped / versions[max(versions)]
    if text in names:
        return shipped / text
    if Path(text).is_dir():
        return Path(text)
    hub = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(.+))?", text)
    if hub and not Path(text).exists():
        return _from_hub(hub[1], hub[2])
    cards = {n: json.loads((shipped / n / CARD).read_text("utf-8")) for n in names}
    names = [n for n in names if not component or component in cards[n]["parts"]]
    known = ", ".join(["embedded"] * bool(versions) + names)
    raise MissingPartError(
        f"no model {text!r}; give one of {known}, a model folder, or a Hub id org/name@revision"
    )


def is_shipped(card: ModelCard) -> bool:
    """Whether a model came with this package, so that its card is ours."""
    return card.folder.parent == _shipped()


def _shipped() -> Path:
    return Path(str(resources.files("omni2sound"))) / "pretrained"


def check_component(card: ModelCard, component: str, *, field: str, purpose: str) -> None:
    """Refuse a model without a component.

    Raises:
        UserError: It has none of this name.
    """
    if component not in card.parts:
        raise UserError(
            f"model {card.name!r} {purpose}: it has no {component}, only "
            f"{', '.join(card.parts) or 'nothing'}; give another one",
            field=field,
        )


def _from_hub(repository: str, revision: str | None) -> Path:
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"Hub model {repository!r} needs a pinned revision: "
            f"{repository}@<40 hex digits of a commit>",
            field="model",
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir() / "hub",
            allow_patterns=["*.json", "*.safetensors", "*.tsv", "*.md"],
        )
    except Exception as error:  # of the Hub's library and its HTTP library, whatever they are
        # A network that asks to log in answers with a web page where JSON is expected.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingPartError(
            f"could not fetch {repository[:100]}@{revision} from the Hub: {reason[:200]}; check "
            "name and network, or give a model folder"
        ) from None
    return Path(folder)


def load_card(folder: Path) -> ModelCard:
    """Read and check `card.json`, and the digest of every file that it names.

    Raises:
        ConfigError: If the card is missing or malformed.
        IntegrityError: If a file's bytes are not those that the card recorded.
    """
    path = folder / CARD
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise ConfigError(f"{folder} is not a model folder: it has no {CARD}") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    card = from_json(_Card, data, where=str(path))
    if outside := [name for name in card.files if not re.fullmatch(r"[\w.-]+", name)]:
        raise ConfigError(
            f"{path}: files: expected names of files beside the card, got {outside[0][:80]!r}"
        )
    if card.format != FORMAT:
        raise ConfigError(f"{path} has format {card.format}, this release reads format {FORMAT}")
    for part, expected in card.files.items():
        found = _sha256(folder / f"{part}.safetensors")
        if found != expected:
            raise IntegrityError(
                f"{folder / part}.safetensors: sha256 is {found[:12]}..., the card says "
                f"{expected[:12]}...; fetch the model again"
            )
    return ModelCard(
        folder=folder,
        sha256=_model_digest(data),
        attribution=_read_or_empty(folder / ATTRIBUTION_FILE),
        **asdict(card),
    )


def load_part(
    card: ModelCard, part: str, module: nn.Module, *, dtype: torch.dtype | None = None
) -> None:
    """Copy the tensors of `part` into `module`, strictly, one after another.

    A module on the meta device gets its memory here, tensor by tensor: a large part then
    takes its own size in memory, and never twice that.

    Args:
        card: The model's card.
        part: "dit", "autoencoder" or "sync".
        module: The component, with the shapes that the card says.
        dtype: Type of floating-point tensors. Default: their type in the module.

    Raises:
        ConfigError: If a tensor is missing, left over or of another shape; all are named.
    """
    names = [name for name in card.files if re.fullmatch(re.escape(part) + r"(-\d+)?", name)]
    if not names:
        raise ConfigError(f"model {card.name!r} has no part {part!r}; it has {sorted(card.files)}")
    wanted = module.state_dict()
    stored: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for name in names:
        path = card.folder / f"{name}.safetensors"
        with open_tensors(path) as file:
            for key in file.keys():  # noqa: SIM118 - the reader is no mapping
                stored[key] = path, tuple(file.get_slice(key).get_shape())
    problems = misfits({k: shape for k, (_, shape) in stored.items()}, wanted)
    if problems:
        raise ConfigError(f"{part} of model {card.name!r} does not fit: {'; '.join(problems)}")
    for path in dict.fromkeys(path for path, _ in stored.values()):
        with open_tensors(path) as file:
            for key in file.keys():  # noqa: SIM118
                _set_tensor(module, key, file.get_tensor(key), dtype)


def misfits(stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor]) -> list[str]:
    """List what keeps stored tensors, given by their shapes, from filling a module's state."""
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    return [
        *(f"missing {name}" for name in shapes if name not in stored),
        *(f"left over {name}" for name in stored if name not in shapes),
        *(
            f"{name} is {stored[name]}, expected {shape}"
            for name, shape in shapes.items()
            if name in stored and stored[name] != shape
        ),
    ]


def _set_tensor(module: nn.Module, name: str, value: Tensor, dtype: torch.dtype | None) -> None:
    """Copy into a tensor that has memory; replace one that has none."""
    import torch
    from torch import nn

    owner_name, _, own_name = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    old = getattr(owner, own_name)
    if dtype is None or not old.is_floating_point():
        dtype = old.dtype
    if not old.is_meta and old.dtype == dtype:
        with torch.no_grad():
            old.copy_(value)
        return
    new = value.to(dtype=dtype, device=None if old.is_meta else old.device)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(owner, own_name, new)


def load_tensors(card: ModelCard) -> dict[str, dict[str, Tensor]]:
    """Tensors of every part of a model, by part and name, in their stored types."""
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in card.files:
        part = re.sub(r"-\d+$", "", name)
        tensors.setdefault(part, {}).update(read_tensors(card.folder / f"{name}.safetensors"))
    return tensors


def part_sha256(card: ModelCard, part: str) -> str:
    """Digest of one component over all of its files; empty if the model has none."""
    names = sorted(n for n in card.files if re.fullmatch(re.escape(part) + r"(-\d+)?", n))
    return "+".join(card.files[name] for name in names)


def networks_sha256(holder: object) -> str:
    """Digest of the weights of all networks that an encoder or tagger holds as attributes."""
    from torch import nn

    digest = hashlib.sha256()
    for network in (part for part in vars(holder).values() if isinstance(part, nn.Module)):
        digest_weights(digest, network)
    return digest.hexdigest()


def digest_weights(digest: hashlib._Hash, network: nn.Module) -> None:
    """Add names, types, shapes and bytes of all tensors of a network to a digest."""
    digest_tensors(digest, network.state_dict())


def digest_tensors(digest: hashlib._Hash, tensors: Mapping[str, Tensor]) -> None:
    """Add names, types, shapes and bytes of tensors to a digest, in the order of their names."""
    import torch

    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().data)


def save_model(
    folder: Path,
    *,
    name: str,
    parts: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    defaults: Mapping[str, Any],
    training: Mapping[str, Any],
    attribution: str = "",
    half: bool = True,
    max_file_bytes: int | None = None,
) -> None:
    """Write a model folder whole or not at all.

    Args:
        folder: Target; replaced only once everything is written.
        name: The model's name.
        parts: Configuration of each part, JSON data.
        tensors: State of each trained part.
        defaults: Settings that a request need not give.
        training: How the weights were made.
        attribution: Contents of `attribution.tsv`; empty without training data.
        half: Store floating-point tensors as fp16; else as they are.
        max_file_bytes: Size limit of one file of tensors. Default: `MAX_FILE_BYTES`.
    """
    import torch

    files = {}
    with atomic_folder(folder, marker=CARD, kind="model folder") as staging:
        for part, state in tensors.items():
            stored = {
                k: v.detach().cpu().to(torch.float16 if half and v.is_floating_point() else v.dtype)
                for k, v in state.items()
            }
            groups = _file_groups(stored, max_file_bytes or MAX_FILE_BYTES)
            for number, names in enumerate(groups, start=1):
                stem = part if len(groups) == 1 else f"{part}-{number}"
                path = staging / f"{stem}.safetensors"
                save_tensors(path, {k: stored[k].contiguous() for k in names})
                path.chmod(0o644)
                files[stem] = _sha256(path)
        card = {
            "format": FORMAT,
            "name": name,
            "parts": dict(parts),
            "defaults": dict(defaults),
            "training": dict(training),
            "files": files,
        }
        if attribution:
            (staging / ATTRIBUTION_FILE).write_text(attribution, encoding="utf-8")
        (staging / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _file_groups(tensors: Mapping[str, Tensor], limit_bytes: int) -> list[list[str]]:
    """Names in order, cut into files of at most `limit_bytes`."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > limit_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    return groups


def _read_or_empty(path: Path) -> str:
    return read_text(path) if path.is_file() else ""


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing; fetch the model again") from None


def _model_digest(data: Mapping[str, Any]) -> str:
    identity = {"parts": data["parts"], "files": data["files"]}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
