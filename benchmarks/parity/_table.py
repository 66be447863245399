"""A row of the parity table: what is compared, how large the difference may be, and the verdict.

What not to get wrong: both sides must listen. A network whose last layer starts at zero
equals any other one, so `randomise` leaves no tensor at its start, and `relative` refuses
a reference that is constant.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Outcome", "Row", "print_table", "randomise", "relative", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        part: Our part, as the table names it.
        against: The reference: package and version, or what it is.
        what: What was given to both and compared.
        limit: The largest difference that counts as the same; 0 means equal bits.
        measure: Builds both sides and gives the difference as `relative` defines it. Raises
            ModuleNotFoundError where the reference is not installed.
    """

    part: str
    against: str
    what: str
    limit: float
    measure: Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    row: Row
    difference: float | None
    seconds: float
    missing: str = ""

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return f"unverified: no {self.missing}"
        return "same" if self.difference <= self.row.limit else "DIFFERS"


def relative(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference, as a share of the reference's largest value.

    Raises:
        ValueError: The shapes differ, or the reference is constant or not finite.
    """
    if ours.shape != reference.shape:
        raise ValueError(f"shapes differ: ours {tuple(ours.shape)}, {tuple(reference.shape)}")
    expected = reference.detach().double()
    if not expected.isfinite().all() or float(expected.std()) == 0:
        raise ValueError("the reference is constant or not finite; nothing can be compared to it")
    worst = float((ours.detach().double() - expected).abs().max() / expected.abs().max())
    return math.inf if math.isnan(worst) else worst


@torch.no_grad()
def randomise(module: nn.Module, *, seed: int = 0, gain: float = 1.0) -> None:
    """Normal numbers in every parameter, scaled by the fan-in; none is left at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        noise = torch.randn(parameter.shape, generator=generator) * gain * fan_in**-0.5
        parameter.copy_(noise)


def run(row: Row) -> Outcome:
    begin = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # references greet
            difference, missing = row.measure(), ""
    except ModuleNotFoundError as error:
        difference, missing = None, error.name or str(error)
    return Outcome(
        row=row, difference=difference, seconds=time.perf_counter() - begin, missing=missing
    )


def print_table(rows: list[Row]) -> int:
    """Run each row and print its line; the exit code is 1 if any differs."""
    print("| part | reference | compared | difference | limit | verdict | s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    outcomes = []
    for row in rows:
        outcome = run(row)
        outcomes.append(outcome)
        difference = outcome.difference
        found = "" if difference is None else f"{difference:.1e}" if difference else "0"
        limit = f"{row.limit:.0e}" if row.limit else "0"
        print(
            f"| {row.part} | {row.against} | {row.what} | {found} | {limit} "
            f"| {outcome.verdict} | {outcome.seconds:.1f} |",
            flush=True,
        )
    different = sum(o.difference is not None and o.verdict != "same" for o in outcomes)
    unverified = sum(o.difference is None for o in outcomes)
    same = len(outcomes) - different - unverified
    print(f"{same} same, {different} different, {unverified} unverified")
    return 1 if different else 0
