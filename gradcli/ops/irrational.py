"""Numbers that no float is, as operators on numbers that are.

A rule that multiplies by the float nearest to 2 / sqrt(pi) is the derivative of another function,
at 1e-17, and enclosures of the true one exclude it. Where a graph runs in floats these are folded,
in float64, and rounded once.
"""

from __future__ import annotations

from gradcli.graph import Builder, DType, Var


def root(b: Builder, number: Var | float, dtype: DType) -> Var:
    """The square root of a number, a scalar; or of what is only known when it is run."""
    if isinstance(number, Var):
        return b.op("Sqrt", number)
    return b.cast(b.op("Sqrt", b.constant(number, DType.FLOAT64)), dtype)


def over_root_pi(b: Builder, number: float, dtype: DType) -> Var:
    """A number over the square root of pi, a scalar."""
    pi = b.op("Acos", b.constant(-1.0, DType.FLOAT64))
    return b.cast(number / b.op("Sqrt", pi), dtype)
