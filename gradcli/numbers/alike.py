"""Numbers that are equal by construction: computed once, they stay one and the same object.

No precision shows that two irrational numbers are equal, but what a function makes of the same
operands is the same number. So wherever operands repeat, copies of a row, padding, the windows over
a constant stretch, the function is asked once and its result copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def named(x: Any, key: Callable[[Any], Any]) -> np.ndarray:
    """A whole number for each element: the same for those that are certainly equal.

    Args:
        x: An array of objects.
        key: What elements that are certainly equal have in common, hashable.
    """
    seen: dict[Any, int] = {}

    def name(v: Any) -> int:
        return seen.setdefault(key(v), len(seen))

    return np.asarray(np.frompyfunc(name, 1, 1)(np.asarray(x, object)), np.int64)


def each(function: Callable[..., Any], key: Callable[[Any], Any], *operands: Any) -> np.ndarray:
    """An elementwise function, asked once for operands that are alike."""
    arrays = [np.asarray(x, object) for x in operands]
    code: np.ndarray = np.zeros((), np.int64)
    for x in arrays:
        names = named(x, key)
        code = code * (int(names.max(initial=0)) + 1) + names
        # The codes stay small, however many operands there are.
        code = np.unique(code, return_inverse=True)[1].reshape(code.shape)
    _, first, copies = np.unique(code, return_index=True, return_inverse=True)
    chosen = (np.broadcast_to(x, code.shape).reshape(-1)[first] for x in arrays)
    made: np.ndarray = np.asarray(function(*chosen), object)
    return made[copies.reshape(code.shape)]


def distinct(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a matrix that differ, by their first places, and which of them each row is."""
    if not names.size:
        return np.arange(len(names)), np.arange(len(names))
    _, first, copies = np.unique(names, axis=0, return_index=True, return_inverse=True)
    return first, copies.reshape(-1)


def product(
    times: Callable[[np.ndarray, np.ndarray], np.ndarray],
    key: Callable[[Any], Any],
    a: np.ndarray,
    b: np.ndarray,
) -> np.ndarray:
    """Matrix products [..., m, k] by [..., k, n], leading axes broadcast, of each pair once.

    Args:
        times: The product of two matrices.
        key: As in `named`.
        a: The left factors.
        b: The right ones.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    lefts = np.broadcast_to(named(a, key), (*batch, m, k)).reshape(-1, m, k)
    rights = np.broadcast_to(named(b, key), (*batch, k, n)).reshape(-1, k, n)
    a = np.broadcast_to(a, (*batch, m, k)).reshape(-1, m, k)
    b = np.broadcast_to(b, (*batch, k, n)).reshape(-1, k, n)
    out = np.empty((len(a), m, n), object)
    first, which = distinct(lefts.reshape(len(a), -1))
    for i, place in enumerate(first):
        # All that one left factor is multiplied by, side by side.
        pairs = np.flatnonzero(which == i)
        columns = b[pairs].transpose(0, 2, 1).reshape(-1, k)
        rows, row_of = distinct(lefts[place])
        some, column_of = distinct(rights[pairs].transpose(0, 2, 1).reshape(-1, k))
        made = times(a[place][rows], columns[some].T)[row_of][:, column_of]
        out[pairs] = made.reshape(m, len(pairs), n).transpose(1, 0, 2)
    return out.reshape(*batch, m, n)
