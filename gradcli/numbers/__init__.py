"""Number systems: what an operator's `impl` computes in."""

from gradcli.numbers.ball import Ball, Points
from gradcli.numbers.base import Array, Mask, Numbers
from gradcli.numbers.fan import Fan
from gradcli.numbers.floats import Complex, Real, complex_, real
from gradcli.numbers.series import Series
from gradcli.numbers.symbol import Symbol

__all__ = [
    "Array",
    "Ball",
    "Complex",
    "Fan",
    "Mask",
    "Numbers",
    "Points",
    "Real",
    "Series",
    "Symbol",
    "complex_",
    "real",
]
