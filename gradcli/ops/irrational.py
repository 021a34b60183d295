"""Numbers that no float is.

A rule that multiplies by the float next to 2 / sqrt(pi) is the derivative of another function, at
1e-17, and enclosures of the true one exclude it. So where a graph is to be evaluated in more than
float64 such numbers are operators on numbers that are floats; elsewhere the float will do, which
every runtime has.
"""

from __future__ import annotations

import math

from gradcli.graph import Builder, DType, Var


def root(b: Builder, number: Var | float, dtype: DType) -> Var:
    """The square root of a number, a scalar; or of what is only known when it is run."""
    if isinstance(number, Var):
        return b.op("Sqrt", number)
    if not b.table.exact:
        return b.constant(math.sqrt(number), dtype)
    return b.op("Sqrt", b.constant(number, dtype))


def over_root_pi(b: Builder, number: float, times: float, dtype: DType) -> Var:
    """A number over the square root of so many times pi, a scalar."""
    if not b.table.exact:
        return b.constant(number / math.sqrt(times * math.pi), dtype)
    return number / b.op("Sqrt", b.op("Acos", b.constant(-1.0, dtype)) * times)
