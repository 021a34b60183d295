"""A program that does not always give the same results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Unsteady:
    """Two runs of one program on one input, and where they are furthest apart.

    Attributes:
        program: `primal` for the file's own bytes, else the method.
        threads: Of the two runs; the same number twice where nothing but the run was another.
        name: The tensor, or the block of the derivative.
        index: The element where the absolute difference is largest.
        max_abs: That difference; infinite where one of the two is no number.
        max_rel: The largest difference relative to the larger of the two.
        elements: How many elements differ, of all tensors.
    """

    program: str
    threads: tuple[int, int]
    name: str
    index: tuple[int, ...]
    max_abs: float
    max_rel: float
    elements: int


def unsteady(
    program: str,
    threads: tuple[int, int],
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
) -> Unsteady | None:
    """What differs between two runs, bit for bit except for the kinds of NaN; None if nothing does.

    Args:
        program: See Unsteady.
        threads: Likewise.
        first: Results by name.
        second: Likewise, of the same shapes.
    """
    count, worst, relative = 0, None, 0.0
    for name, a in first.items():
        x, y = np.asarray(a, np.float64), np.asarray(second[name], np.float64)
        off = (x != y) & ~(np.isnan(x) & np.isnan(y))
        if not np.any(off):
            continue
        count += int(np.sum(off))
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.where(off, np.abs(x - y), 0.0)
            share = np.where(off, gap / np.maximum(np.abs(x), np.abs(y)), 0.0)
        # Of a number and none, as of infinity and a number, the difference knows no bound.
        gap, share = (np.where(np.isfinite(gap), s, np.inf) for s in (gap, share))
        relative = max(relative, float(np.max(share)))
        place = np.unravel_index(int(np.argmax(gap)), gap.shape)
        if worst is None or gap[place] > worst[2]:
            worst = (name, tuple(int(i) for i in place), float(gap[place]))
    return None if worst is None else Unsteady(program, threads, *worst, relative, count)
