"""What the walk over all operators may not draw: axes in the forms that files write."""

from __future__ import annotations

import numpy as np

from tests.ops import checks
from tests.ops.rows import TABLE
from tests.ops.table import Case


def test_unsqueeze_along_an_axis_given_as_a_scalar():
    """torch writes it so; onnxruntime takes it there, but not in the Squeeze that undoes it."""
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    for axis in (1, -1):
        a = checks.applied(TABLE["Unsqueeze"], Case((x, np.array(axis))))
        checks.check_vjp(a)
        checks.check_derivative_runtime(a)
