"""Several points at once: rows of a table, the leading axis of arrays, entries of an archive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from gradcli.cli.stored import Stored
    from gradcli.graph import Value

MOST = 10_000
"""Points that are taken at once."""


@dataclass(frozen=True)
class Point:
    """One of several points.

    Attributes:
        label: Which it is, in words.
        feeds: An array for each input that the file has.
    """

    label: str
    feeds: Mapping[str, np.ndarray]


def points_of(
    stored: Mapping[str, Stored], values: Mapping[str, Value], given: Mapping[str, Any]
) -> list[Point]:
    """The points in files of which each holds those of one input.

    Args:
        stored: By input name; the leading axis counts points.
        values: The model's inputs by name.
        given: Inputs that are the same at all points.

    Raises:
        InputError: When an input is unknown, given twice, not as long as the others, or a point of
            it does not fit or is not finite; it names the file and the point.
    """
    for name, array in stored.items():
        if name not in values:
            known = ", ".join(values)
            raise InputError(
                f"{array.where}: the model has no input called {name!r}", f"its inputs are: {known}"
            )
        if name in given:
            raise UsageError(f"--input and --points both give {name!r}", "give each input once")
        if not array.shape:
            raise InputError(
                f"{array.where}: has no axis of points", "give a leading axis for them"
            )
    counts = {name: array.shape[0] for name, array in stored.items()}
    count = max(counts.values())
    if min(counts.values()) != count:
        listed = ", ".join(f"{name} has {n:,}" for name, n in counts.items())
        where = next(iter(stored.values())).where
        raise InputError(
            f"{where}: the inputs have different numbers of points: {listed}",
            "give each input as many: the leading axis counts them",
        )
    if not 0 < count <= MOST:
        where = next(iter(stored.values())).where
        raise InputError(
            f"{where}: has {count:,} points, and 1 to {MOST:,} are taken",
            "give a part of them: each is differentiated by itself",
        )
    rows = {name: _rows(array, values[name]) for name, array in stored.items()}
    return [
        Point(_label(k, stored), {name: found[k] for name, found in rows.items()})
        for k in range(count)
    ]


def _label(k: int, stored: Mapping[str, Stored]) -> str:
    lines = next((array.lines for array in stored.values() if array.lines), ())
    return f"point {k} (line {lines[k]})" if lines else f"point {k}"


def _rows(array: Stored, value: Value) -> list[np.ndarray]:
    """The points of one input, each in the input's shape."""
    shape = _shape(array.shape[1:], value, bool(array.lines))
    if shape is None:
        want = "any shape" if value.shape is None else f"[{', '.join(map(str, value.shape))}]"
        raise InputError(
            f"{array.where}: its points are of shape {list(array.shape[1:])}; the model's input"
            f" {value.name!r} wants {want}",
            "the leading axis counts points, and what follows is one point",
        )
    data = array.read()
    if data.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(data))
        if len(bad):
            k, *place = (int(i) for i in bad[0])
            raise InputError(
                f"{array.where}: point {k} holds NaN or infinity, at {place}",
                "leave that point out: a derivative there means nothing",
            )
    return [row.reshape(shape) for row in data]


def _shape(given: Sequence[int], value: Value, flat: bool) -> tuple[int, ...] | None:
    """The shape of a point as the input takes it; None where it does not fit.

    A batch axis of 1 may be missing; of a row of a table all axes may.
    """
    if value.shape is None:
        return tuple(given)

    def fits(shape: Sequence[int]) -> bool:
        dims = value.shape or ()
        return len(shape) == len(dims) and all(
            isinstance(d, str) or d == n for d, n in zip(dims, shape, strict=True)
        )

    for shape in (tuple(given), (1, *given)):
        if fits(shape):
            return shape
    whole = tuple(1 if isinstance(d, str) else d for d in value.shape)
    return whole if flat and math.prod(whole) == math.prod(given) else None
