"""The two slopes of a function at a kink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcli.problem import Key


@dataclass(frozen=True)
class Fans:
    """What conventions at ties may compose to: of each element an interval, from the primal alone.

    Attributes:
        middle: Blocks like the answer's; NaN where not known.
        half: Likewise: half of the width; 0 where no tie matters.
    """

    middle: Mapping[Key, np.ndarray]
    half: Mapping[Key, np.ndarray]


@dataclass(frozen=True)
class Sides:
    """One-sided derivatives of the answer along coordinate directions, from the primal alone.

    Attributes:
        left: Blocks like the answer's; NaN where not taken.
        right: Likewise.
        uncertainty: Of either.
    """

    left: Mapping[Key, np.ndarray]
    right: Mapping[Key, np.ndarray]
    uncertainty: Mapping[Key, np.ndarray]
