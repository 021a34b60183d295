"""Balls, and what floats say of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradcli.numbers import Array, Ball

NARROW = 1e-20
"""How narrow an enclosure must be, relative to the element, or to the largest of its tensor."""


@dataclass(frozen=True)
class Enclosure:
    """An array of balls, and what floats say of it.

    Attributes:
        balls: The balls.
        mid: Their midpoints, to the nearest; NaN where nothing is known.
        rad: Bounds of their radii; infinite where nothing is known.
    """

    balls: Array
    mid: np.ndarray
    rad: np.ndarray

    @classmethod
    def of(cls, n: Ball, balls: Array) -> Enclosure:
        """Of an array of balls."""
        mid, rad = n.lower(balls), n.radius(balls)
        finite = np.isfinite(mid) & np.isfinite(rad)
        return cls(balls, np.where(finite, mid, np.nan), np.where(finite, rad, np.inf))

    def negated(self) -> Enclosure:
        """Of what is as far on the other side of 0."""
        return Enclosure(-self.balls, -self.mid, self.rad)

    def row(self, k: int) -> Enclosure:
        """Of the k-th part along the leading axis."""
        balls = self.balls[k : k + 1].reshape(self.mid.shape[1:])
        return Enclosure(balls, self.mid[k], self.rad[k])

    @property
    def size(self) -> float:
        """The largest element."""
        return float(np.max(np.abs(self.mid), where=np.isfinite(self.mid), initial=0.0))

    def enclosed(self) -> np.ndarray:
        """Which elements are narrow, relative to themselves."""
        return np.asarray(self.rad <= NARROW * np.abs(self.mid))

    def below(self) -> np.ndarray:
        """Which elements are nothing beside the largest one."""
        return np.asarray(~self.enclosed() & (np.abs(self.mid) + self.rad <= NARROW * self.size))

    def known(self) -> np.ndarray:
        """Which elements are either."""
        return np.asarray(self.enclosed() | self.below())

    def good_bits(self) -> float:
        """Of the worst element that is not known; infinite where there is none that is finite.

        An element that may be 0 counts relative to the largest one.
        """
        wide = ~self.known() & np.isfinite(self.rad)
        if not np.any(wide):
            return math.inf
        mid, rad = np.abs(self.mid[wide]), self.rad[wide]
        against = np.where(mid > rad, mid, max(self.size, float(np.max(rad))))
        return float(np.min(np.log2(against / rad)))

    def digits(self) -> float:
        """Decimal digits of the worst element that is enclosed."""
        some = self.enclosed() & (self.rad > 0.0)
        worst = float(np.max(self.rad[some] / np.abs(self.mid[some]), initial=0.0))
        return -math.log10(worst) if worst else math.inf
