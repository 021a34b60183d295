"""The tensors inside two models: which of one are equal to which of the other, whatever the names.

A copy that was optimised or exported anew has other nodes and other names. What it computes on the
way is mostly the same, so tensors are known by their numbers: by their values at the point, and by
what a random tangent of the inputs comes to in them, which also tells a rectifier from its operand
where nothing is cut off.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.contrast.judge import Judge, beyond, difference
from gradcli.engines.base import Arrays, Part
from gradcli.graph import Graph

MOST = 1 << 18
"""Elements of a tensor that are looked at: of larger ones so many, evenly spread."""

PROBED = 64
"""Elements that are looked at first."""

TURNED = 5
"""Axes longer than 1 up to which their other orders are tried."""


@dataclass(frozen=True)
class Trace:
    """What the tensors of a model come to at a point.

    Attributes:
        graph: The model.
        shapes: Of each tensor.
        values: Of each tensor, flat and thinned.
        tangents: Likewise; a tensor that no tangent reaches is left out.
        cotangents: Likewise.
    """

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    values: Arrays
    tangents: Arrays
    cotangents: Arrays


@dataclass(frozen=True)
class Twin:
    """A tensor of the second model whose values are equal to those of one of the first.

    Attributes:
        name: Its name.
        apart: How far it is off, of what is allowed, or its tangent: both are equal up to 1.
        turned: Whether its axes stand in another order.
    """

    name: str
    apart: float
    turned: bool


def thinned(x: np.ndarray) -> np.ndarray:
    """Its elements in a row, of a large one so many, evenly spread."""
    flat = np.asarray(x, np.float64).reshape(-1)
    return flat[:: -(-flat.size // MOST)] if flat.size > MOST else flat


def twins(
    ours: Trace,
    theirs: Trace,
    runs: Sequence[Trace],
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, tuple[Twin, ...]]:
    """For each tensor of the first model those of the second that have its values.

    Args:
        ours: The first.
        theirs: The second.
        runs: The first with its roundings made at random.
        judge: What may differ by how much.
        tell: Called with a few words before each tensor.
    """
    sizes: dict[int, list[str]] = defaultdict(list)
    for name, shape in theirs.shapes.items():
        sizes[int(np.prod(shape))].append(name)
    found = {}
    for k, (name, shape) in enumerate(ours.shapes.items()):
        tell(Part("tensors that have an equal", k + 1, len(ours.shapes)))
        others = sizes[int(np.prod(shape))]
        if others:
            found[name] = tuple(_twins(name, others, ours, theirs, runs, judge))
    return {name: some for name, some in found.items() if some}


def _twins(
    name: str,
    others: Sequence[str],
    ours: Trace,
    theirs: Trace,
    runs: Sequence[Trace],
    judge: Judge,
) -> Iterator[Twin]:
    value, tangent = _both(ours, name)
    allowed = judge.allowed(value, [run.values[name] for run in runs])
    leeway = judge.allowed(tangent, [_both(run, name)[1] for run in runs])
    some = np.linspace(0, value.size - 1, min(PROBED, value.size), dtype=int)
    most = float(np.sum(allowed))
    total = float(np.sum(value))
    for other in others:
        y, dot = _both(theirs, other)
        # Cheap looks come first: at a few elements, at the sum that no order changes.
        if excess(value[some], y[some], allowed[some]) <= 1.0 and excess(value, y, allowed) <= 1.0:
            apart = max(excess(value, y, allowed), excess(tangent, dot, leeway))
            yield Twin(other, apart, False)
            continue
        if abs(float(np.sum(y)) - total) > most:
            continue
        for shape, order in _orders(ours.shapes[name], theirs.shapes[other]):
            y_, dot_ = (x.reshape(shape).transpose(order).reshape(-1) for x in (y, dot))
            if (off := excess(value, y_, allowed)) <= 1.0:
                yield Twin(other, max(off, excess(tangent, dot_, leeway)), True)
                break


def _both(trace: Trace, name: str) -> tuple[np.ndarray, np.ndarray]:
    value = trace.values[name]
    return value, trace.tangents.get(name, np.zeros_like(value))


def excess(a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> float:
    """The largest difference, in what is allowed for its element."""
    gap = difference(a, b)
    return float(np.max(beyond(gap, allowed), initial=0.0))


def _orders(
    ours: tuple[int, ...], theirs: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Orders of the second's axes, other than as they stand, in which it has the first's shape."""
    one, other = (tuple(n for n in shape if n != 1) for shape in (ours, theirs))
    if len(one) != len(other) or len(one) > TURNED or int(np.prod(one)) > MOST:
        return
    for order in itertools.permutations(range(len(other))):
        if order != tuple(range(len(other))) and tuple(other[i] for i in order) == one:
            yield other, order
