"""Finite differences over many steps, as they were taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcli.engines.base.program import Arrays


@dataclass(frozen=True)
class Swept:
    """Differences along K steps, L directions and M outputs, or 1 where a cotangent sums them.

    Attributes:
        dtype: The arithmetic that f was computed in.
        steps: [K], relative to max(1, |x|), from long to short.
        directions: An array [L, *shape] for each of `wrt`: first a random one or the tangent, then
            coordinates.
        outputs: Which of the joined outputs the M are; empty where a cotangent sums all of them.
        forward: [K, L, M], (f(x + h v) - f(x)) / h; NaN where there is none.
        central: [K, L, M], (f(x + h v) - f(x - h v)) / 2h; likewise.
        ahead: [K, L], whether a kink is crossed on the way to x + h v.
        behind: [K, L], likewise to x - h v.
        noise: [L, M], the rounding error of one evaluation, as it is over a step of 1.
        ladder: [L, M], what the ladder of steps makes of them.
        rung: [L, M], the shortest step that it used; NaN where it found none.
        sparse: Whether there was time for some steps of one direction only. In the place of the
            ladder's is then the central difference that agrees best with its neighbours.
    """

    dtype: str
    steps: np.ndarray
    directions: Arrays
    outputs: np.ndarray
    forward: np.ndarray
    central: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    noise: np.ndarray
    ladder: np.ndarray
    rung: np.ndarray
    sparse: bool = False
