"""The licences of everything that an installation brings, from installed metadata alone."""

from __future__ import annotations

import importlib.metadata as metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = re.compile(
    r"Apache|BSD|MIT|ISC|Zlib|PSF|Python-2\.0|Python Software Foundation|MPL|Mozilla|Unlicense|"
    r"public domain|CC0|HPND|CNRI|BSL-1\.0|LGPL|Lesser",
    re.IGNORECASE,
)
"""LGPL: libraries that are loaded as they are and can be replaced."""
STRONG = re.compile(r"(?<!L)\b(A?GPL|GNU (Affero )?General)", re.IGNORECASE)


EXTRAS = ("torch", "annotate", "train", "scale", "studio", "export", "wording")
"""Those of users; `docs` and `dev` bring what is not passed on."""


def brought_by(name: str, *extras: str) -> set[str]:
    """Names of all distributions that an installation with these extras brings."""
    found: set[tuple[str, str]] = set()
    left = [Requirement(f"{name}[{','.join(extras)}]")]
    while left:
        wanted = left.pop()
        for extra in ("", *wanted.extras):
            key = (canonicalize_name(wanted.name), extra)
            if key in found:
                continue
            try:
                needed = [Requirement(text) for text in metadata.requires(wanted.name) or []]
            except metadata.PackageNotFoundError:
                continue  # of another platform
            found.add(key)
            left += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found} - {"omni2sound"}


def licence_of(name: str) -> str:
    fields = metadata.metadata(name)
    classifiers = [c for c in fields.get_all("Classifier") or [] if c.startswith("License ::")]
    return (
        "; ".join([fields.get("License-Expression") or "", *classifiers])
        + "; "
        + ((fields.get("License") or "").strip().split("\n")[0])
    )


DISTRIBUTIONS = sorted(
    n for n in brought_by("omni2sound", *EXTRAS) if not n.startswith(("nvidia", "cuda"))
)
"""Without the libraries of a CUDA build of torch, which are under NVIDIA's own terms."""


def test_there_are_dependencies_to_look_at() -> None:
    assert {"torch", "numpy", "av", "onnxruntime", "fastapi"} <= set(DISTRIBUTIONS)
    assert "torch" not in brought_by("omni2sound")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_dependency_may_be_used_and_passed_on(name: str) -> None:
    licence = licence_of(name)
    assert PERMISSIVE.search(licence), f"{name}: {licence!r}"
    assert not STRONG.search(licence), f"{name}: {licence!r}"
