"""What two models may differ by, and how alike two of their tensors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.contrast.facts import Block
from gradcli.engines.base import spread

NOISE = 4.0
"""In three standard deviations of rounding errors: by how much two models may differ."""

UNITS = 16.0
"""In units in the last place of the largest element: by how much they may at least."""

TOP = 10
"""Of how many of the largest elements it is asked whether they still are."""


COARSE = 0.1
"""Of the largest element: what differs by more is not the same for rounding alone."""


class Judge:
    """What may differ by how much."""

    def __init__(self, eps: float, rtol: float, atol: float) -> None:
        self._eps, self._rtol, self._atol = eps, rtol, atol

    def allowed(self, y: np.ndarray, runs: Sequence[np.ndarray]) -> np.ndarray:
        """By how much each element may differ."""
        largest = size(y)
        noise = _rounding(runs, y)
        least = max(UNITS * self._eps, self._rtol) * largest + self._atol
        return np.asarray(np.maximum(NOISE * noise, least))

    def block(
        self, of: str, wrt: str, one: np.ndarray, other: np.ndarray, runs: Sequence[np.ndarray]
    ) -> Block:
        """Two tensors of one size, held against each other, their elements in their order."""
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        shape = a.shape
        b = b.reshape(shape)
        allowed = self.allowed(a, runs)
        gap = difference(a, b)
        excess = beyond(gap, allowed)
        same = bool(np.all(gap <= allowed))
        most = float(np.max(gap, initial=0.0))
        worst = int(np.argmax(excess)) if a.size else 0
        at = tuple(int(i) for i in np.unravel_index(worst, shape)) if a.size else ()
        top, overlap = _largest(np.abs(a.reshape(-1)), np.abs(b.reshape(-1)), allowed.reshape(-1))
        flipped = (np.sign(a) * np.sign(b) < 0) & (np.abs(a) > allowed) & (np.abs(b) > allowed)
        return Block(
            of,
            wrt,
            shape,
            size(a),
            most,
            float(_rounding(runs, a)[at]) if a.size else 0.0,
            float(allowed[at]) if a.size else 0.0,
            float(excess[at]) if a.size else 0.0,
            same,
            same and most > max(COARSE, self._rtol) * size(a) + self._atol,
            at,
            float(a[at]) if a.size else 0.0,
            float(b[at]) if a.size else 0.0,
            _cosine(a, b),
            int(np.sum(flipped)),
            top,
            overlap,
            int(np.sum(~np.isfinite(a) & ~np.isfinite(b))),
        )


def _rounding(runs: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Three deviations of the rounding errors; 0 where there are no numbers."""
    rounding = spread(runs, y)
    return np.where(np.isfinite(rounding), rounding, 0.0)


def _largest(a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> tuple[int, int]:
    """Of how many largest elements it is asked, and how many of them are among the largest of b.

    Zeros are not the largest of anything, and what is as large as the last that is, but for what
    may differ, is among them: among equals no order is told.
    """
    a, b = (np.where(np.isnan(x), 0.0, x) for x in (a, b))
    top = min(TOP, int(np.count_nonzero(a)))
    if not top:
        return 0, 0
    least = np.partition(b, -top)[-top]
    first = np.argsort(-a, kind="stable")[:top]
    return top, int(np.sum((b[first] > 0.0) & (b[first] >= least - allowed[first])))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, 0 where both are the same infinity or no number, infinite where only one is."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(a - b))
    return np.asarray(np.where(np.isnan(gap), np.inf, gap))


def beyond(gap: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Differences, in what is allowed; 0 where there is none."""
    with np.errstate(over="ignore"):
        return np.where(gap > 0.0, gap / np.maximum(allowed, np.finfo(np.float64).tiny), 0.0)


def size(y: np.ndarray) -> float:
    """The largest element that is a finite number."""
    return float(np.max(np.abs(y), where=np.isfinite(y), initial=0.0))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    # Scaled first: squares of tiny or huge elements are no numbers.
    one, other = (x.reshape(-1) / (size(x) or 1.0) for x in (a, b))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 0.0 and np.isfinite(lengths) else np.nan
