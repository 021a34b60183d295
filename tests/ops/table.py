"""One row an operator: how to draw a random case of it. Tests of operators walk this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One application of an operator on concrete arrays.

    Attributes:
        inputs: Operands in order, None where absent. Floats are float64 and off kinks and edges;
            they are what is differentiated. Integers, bools and strings are constants of the graph.
        attrs: Attributes that are not at their default.
        outputs: How many results to ask for.
        fixed: Places of float operands that are not differentiated although they are floats.
    """

    inputs: tuple[np.ndarray | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    fixed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Kink:
    """A point on a kink, and what the convention makes of it.

    Attributes:
        case: The point.
        wrt: Which operand is differentiated.
        gradient: d(sum of the first result)/d(that operand) by the convention. A point where the
            derivative exists but a careless formula has none may be given here too.
    """

    case: Case
    wrt: int
    gradient: np.ndarray


@dataclass(frozen=True, eq=False)
class Row:
    """How one operator is tested.

    Attributes:
        op: Full name, as in OPS.
        draw: A random case: shapes, broadcasting and attributes vary with the generator.
        kinks: Points on kinks, with the conventional derivative.
        runtime: Empty when onnxruntime has a kernel to hold the primal against; else the reason.
        tolerance: Relative tolerance of the primal against onnxruntime's float64 kernel.
        dynamic: Which dimensions of the inputs the rules must not need to know. "batch": the first
            operand's leading one. "all": every one above 1, equal sizes being one symbol. "free":
            every one, each a symbol of its own. "": none.
        data_dependent: Whether the size of the result hangs on the elements of an input.
        unbatched: Places of operands whose directions `vmap` must refuse to batch.
        edges: Points at the edge of the domain, where the card's distance to it must be 0.
    """

    op: str
    draw: Callable[[np.random.Generator], Case]
    kinks: tuple[Kink, ...] = ()
    runtime: str = ""
    tolerance: float = 1e-12
    dynamic: str = "batch"
    data_dependent: bool = False
    unbatched: tuple[int, ...] = ()
    edges: tuple[Case, ...] = ()


def shape(
    rng: np.random.Generator, rank: int | None = None, low: int = 1, high: int = 4
) -> tuple[int, ...]:
    """A random small shape."""
    rank = int(rng.integers(0, 5)) if rank is None else rank
    return tuple(int(d) for d in rng.integers(low, high + 1, size=rank))


def narrower(rng: np.random.Generator, wide: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to `wide`: some axes 1, some leading ones gone."""
    kept = wide[int(rng.integers(0, len(wide) + 1)) :]
    return tuple(1 if rng.random() < 0.4 else d for d in kept)


def normal(rng: np.random.Generator, dims: tuple[int, ...], away: float = 0.0) -> np.ndarray:
    """Standard-normal float64, every element at least `away` from 0."""
    x = rng.standard_normal(dims)
    return np.where(np.abs(x) < away, np.copysign(away + np.abs(x), x), x)
