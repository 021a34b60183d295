"""Number systems: what an operator's `impl` computes in."""

from gradcli.numbers.base import Array, Mask, Numbers
from gradcli.numbers.floats import Complex, Real, complex_, real

__all__ = ["Array", "Complex", "Mask", "Numbers", "Real", "complex_", "real"]
