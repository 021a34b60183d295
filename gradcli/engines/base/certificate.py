"""What is certain of a derivative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gradcli.engines.base.sides import Sides
from gradcli.problem import Key


@dataclass(frozen=True)
class Certificate:
    """What is certain of a derivative.

    Attributes:
        blocks: By (of, wrt): the nearest float64 to each element's enclosure; NaN where not known.
        uncertainty: Likewise: a bound of its distance from the truth, rounding to float64 included.
        known: Likewise: which elements are enclosed to 1e-20, relatively, or are known to be below
            that part of the largest of their tensor.
        below: How many of those are below.
        taken: How many elements were asked for.
        bits: The precision that it took.
        digits: Decimal digits of the least certain known element that is not below; infinite where
            all are exact.
        confirmed: How many inner products with a random direction power series of the primal
            enclose too, as narrowly.
        contradicted: How many they exclude: then a rule is wrong.
        rule_free: Whether the elements are those of power series of the primal themselves.
        sides: On a kink: the two one-sided derivatives along coordinates.
        opened: The nodes where a choice stayed open at the last precision, in the user's names.
        primal: The outputs in exact arithmetic, to the nearest float64; NaN where not known.
    """

    blocks: Mapping[Key, np.ndarray]
    uncertainty: Mapping[Key, np.ndarray]
    known: Mapping[Key, np.ndarray]
    below: int
    taken: int
    bits: int
    digits: float
    confirmed: int
    contradicted: int
    rule_free: bool = False
    sides: Sides | None = None
    opened: tuple[str, ...] = ()
    primal: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """How many elements are known."""
        return sum(int(np.sum(known)) for known in self.known.values())

    @property
    def holds(self) -> bool:
        """Whether a method without rules says the same, or has said it all by itself."""
        return (self.confirmed > 0 or self.rule_free) and not self.contradicted
