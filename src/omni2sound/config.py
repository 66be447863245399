"""Frozen dataclasses as configuration: to JSON and back, a digest, and typed overrides.

In:   dataclass instances (model shapes, recipes), JSON objects, ``a.1.b=value`` strings.
Out:  JSON objects, dataclass instances, SHA-256 digests.

What not to get wrong: a digest names a *result*. Fields marked `runtime_only` (workers,
threads) change speed and never a result, so they stay out of it; a field marked `added` is
newer than runs that may be resumed, and stays out of it while it has its default.

Where a field may be one of several dataclasses, their field `kind` tells them apart in JSON;
data without one is read as the first of them. A field of type `Annotated[Base, find]` is open to
classes of plugins: `find` takes the value of `kind` (None without one) and returns the class.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from omni2sound.errors import ConfigError, UserError

T = TypeVar("T")
_RUNTIME_ONLY = "runtime_only"
_ADDED = "added"


def runtime_only(default: T) -> T:
    """A dataclass field that changes speed, never a result; left out of `digest`."""
    return dataclasses.field(default=default, metadata={_RUNTIME_ONLY: True})


def added(default: T) -> T:
    """A field newer than its class; left out of `digest` while it has its default.

    What was done before the field existed then keeps its digest, and can be resumed.
    """
    return dataclasses.field(default=default, metadata={_ADDED: True})


def to_json(config: object, *, with_runtime: bool = True) -> Any:
    """Plain JSON data of a (nested) dataclass; tuples become lists."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {
            f.name: to_json(getattr(config, f.name), with_runtime=with_runtime)
            for f in dataclasses.fields(config)
            if with_runtime or _counts(f, getattr(config, f.name))
        }
    if isinstance(config, Mapping):
        return {str(k): to_json(v, with_runtime=with_runtime) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(v, with_runtime=with_runtime) for v in config]
    if config is None or isinstance(config, bool | int | float | str):
        return config
    raise ConfigError(f"a config holds numbers, text, lists and dataclasses; got {config!r}")


def _counts(field: dataclasses.Field[Any], value: object) -> bool:
    """Whether a field belongs to what a digest names."""
    if field.metadata.get(_RUNTIME_ONLY):
        return False
    return not (field.metadata.get(_ADDED) and value == field.default)


def digest(config: object) -> str:
    """SHA-256 (hex) of everything in `config` that can change a result."""
    canonical = json.dumps(to_json(config, with_runtime=False), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def from_json(kind: type[T], data: object, *, where: str = "config") -> T:
    """Build dataclass `kind` from JSON data, strictly.

    Fields may be nested dataclasses, unions of them, tuples, lists, mappings, literals, scalars,
    any of these or None, or `Any`, which takes JSON data as it is.

    Raises:
        ConfigError: For an unknown or missing field or a value of the wrong type; the
            message names the field's path and the known fields.
    """
    return typing.cast(T, _build(kind, data, where))


def _build(kind: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, data, where)
    origin, args = _form(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return _build(_choose([a for a in args if a is not type(None)], data, where), data, where)
    if origin is typing.Annotated:
        _expect(isinstance(data, Mapping), "an object", data, where)
        name = data.get("kind")
        _expect(name is None or isinstance(name, str), "a name", name, f"{where}.kind")
        try:
            chosen = args[1](name)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        return _build(chosen, data, where)
    if origin is typing.Literal:
        if data not in args:
            known = ", ".join(map(repr, args))
            raise ConfigError(f"{where}: expected one of {known}, got {repr(data)[:80]}")
        return data
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), "an object", data, where)
        return {k: _build(args[1], v, f"{where}.{k}") for k, v in data.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _build_sequence(origin, args, data, where)
    return data if kind in (Any, object) else _scalar(kind, data, where)


@functools.cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Origin and arguments of a type."""
    return typing.get_origin(kind), typing.get_args(kind)


def _build_dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), "an object", data, where)
    hints = _field_types(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise ConfigError(f"{where}: unknown field {unknown[0][:80]!r}; known: {', '.join(hints)}")
    if missing := [name for name in _needed(kind) if name not in data]:
        raise ConfigError(f"{where}: field {missing[0]!r} is missing")
    plain = _plain_types(kind)
    fields = {
        k: v if type(v) in plain[k] else _build(hints[k], v, f"{where}.{k}")
        for k, v in data.items()
    }
    try:
        return kind(**fields)
    except UserError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise ConfigError(f"{where}: impossible values ({error})") from None


@functools.cache
def _needed(kind: type) -> tuple[str, ...]:
    """Fields without a default."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return tuple(f.name for f in fields if f.default is missing and f.default_factory is missing)


@functools.cache
def _plain_types(kind: type) -> dict[str, frozenset[type]]:
    """Of each field the types of values that `_build` returns as they are."""
    found = {}
    for name, hint in _field_types(kind).items():
        origin, args = _form(hint)
        kinds = args if origin in (typing.Union, types.UnionType) else (hint,)
        first = [k for k in kinds if k is not type(None)][:1]
        none = [type(None)] if len(first) < len(kinds) and type(None) in kinds else []
        found[name] = frozenset(k for k in (*first, *none) if k in _PLAIN)
    return found


_PLAIN = (str, int, float, bool, type(None))


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    """Type of each field; looked up once, since files hold many records of one kind."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _build_sequence(origin: type, args: tuple[Any, ...], data: Any, where: str) -> Any:
    _expect(isinstance(data, list | tuple), "a list", data, where)
    if issubclass(origin, tuple) and args[-1] is not Ellipsis:
        _expect(len(args) == len(data), f"{len(args)} values", data, where)
        kinds = args
    else:
        kinds = args[:1] * len(data)
    items = [_build(k, v, f"{where}.{i}") for i, (k, v) in enumerate(zip(kinds, data, strict=True))]
    return items if origin is list else tuple(items)


def _choose(kinds: list[Any], data: Any, where: str) -> Any:
    """The one of several types that `data` is of: by `kind`, the first if it names none."""
    if len(kinds) == 1 or not isinstance(data, Mapping) or "kind" not in data:
        return kinds[0]
    known = {f.default: k for k in kinds for f in dataclasses.fields(k) if f.name == "kind"}
    if not isinstance(data["kind"], str) or data["kind"] not in known:
        names = ", ".join(map(repr, known))
        raise ConfigError(f"{where}: unknown kind {repr(data['kind'])[:80]}; known: {names}")
    return known[data["kind"]]


def _scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise ConfigError(f"{where}: a whole number beyond the range of float") from None
    fits = isinstance(data, kind) and not (kind is int and isinstance(data, bool))
    _expect(fits, kind.__name__, data, where)
    return data


def _expect(fits: bool, expected: str, data: object, where: str) -> None:
    if not fits:
        raise ConfigError(f"{where}: expected {expected}, got {repr(data)[:80]}")


def checked_number(
    value: Any, field: str, *, whole: bool, least: float, most: float = math.inf, unit: str = ""
) -> Any:
    """Return a number as Python's own, which JSON can hold; fractions stay exact.

    Args:
        value: An argument or field of any type.
        field: Its name.
        whole: Whether only whole numbers are accepted.
        least: Least value; `math.ulp(0.0)` stands for all above 0.
        most: Largest value.
        unit: For the message: " of seconds".

    Raises:
        UserError: If it is no number, or out of range.
    """
    kind = numbers.Integral if whole else numbers.Real
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits or not least <= value <= most:  # NaN is outside of every range
        bounds = "above 0" if least == math.ulp(0.0) else f"from {least}"
        if most < math.inf:
            bounds += f", at most {most}" if least == math.ulp(0.0) else f" to {most}"
        raise UserError(
            f"expected a {'whole ' if whole else ''}number{unit} {bounds}, got {repr(value)[:80]}",
            field=field,
        )
    # 3 and 3.0 are one request, and one text in the metadata.
    return value if isinstance(value, Fraction) else int(value) if whole else float(value)


def override(config: T, path: str, value: object) -> T:
    """A copy of `config` with one nested field changed, e.g. ``override(r, "stages.1.lr", 3e-4)``.

    Args:
        config: A dataclass instance.
        path: Field names and tuple indices joined by dots.
        value: JSON data for that field; it is type-checked.

    Raises:
        ConfigError: If the path names nothing (the known names are listed) or the type differs.
    """
    data = to_json(config)
    node, keys = data, path.split(".")
    for depth, key in enumerate(keys):
        at = ".".join(keys[:depth]) or type(config).__name__
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(f"{at}: no item {key!r}; items are 0 to {len(node) - 1}")
            step: int | str = int(key)
        elif isinstance(node, dict) and key in node:
            step = key
        else:
            known = ", ".join(node) if isinstance(node, dict) else "none, it is a plain value"
            raise ConfigError(f"{at}: unknown name {key!r}; known: {known}")
        if depth == len(keys) - 1:
            node[step] = value
        else:
            node = node[step]
    return from_json(type(config), data, where=type(config).__name__)
