"""What the table of operators cannot draw of normalisations."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.ops import OPS
from tests.ops.checks import applied, check_expansion, check_jvp, check_vjp
from tests.ops.rows import TABLE
from tests.ops.table import Case, normal


@pytest.mark.parametrize("size", [2, 4])
def test_the_longer_half_of_an_even_window_of_lrn_is_behind(size):
    x = normal(np.random.default_rng(size), (2, 5, 3))
    a = applied(TABLE["LRN"], Case((x,), {"size": size, "alpha": 0.5, "bias": 2.0}))
    (y,) = interpret(a.graph, a.feeds).values()
    for c in range(5):
        window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        base = 2.0 + 0.5 / size * np.sum(window**2, axis=1)
        np.testing.assert_allclose(y[:, c], x[:, c] * base**-0.75, rtol=1e-12)
    check_expansion(a)
    check_jvp(a)
    check_vjp(a)


@pytest.mark.parametrize(
    ("op", "attrs", "said"),
    [
        ("GroupNormalization", {"num_groups": 3}, "4 channels in 3 groups"),
        ("InstanceNormalization", {}, "2 dimensions"),
        ("LpNormalization", {"p": 3}, "order 3"),
    ],
)
def test_what_has_no_meaning_is_refused(op, attrs, said):
    b = Builder(OPS)
    dims = (2, 4, 3) if "num_groups" in attrs else (2, 4)
    operands = [b.input("x", DType.FLOAT32, dims)]
    operands += [b.constant(np.ones(4, np.float32))] * (len(OPS[op].inputs) - 1)
    with pytest.raises(ValueError, match=said):
        b.op(op, *operands, **attrs)
