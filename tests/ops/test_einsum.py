"""What the table of operators cannot draw of Einsum."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.graph import Builder, DType, is_static, size
from gradcli.ops import OPS
from gradcli.transform import expand
from tests.ops.checks import Applied, applied, check_expansion, check_vjp
from tests.ops.rows import TABLE
from tests.ops.table import Case, normal


def einsum(equation: str, *shapes: tuple[int, ...]) -> Applied:
    rng = np.random.default_rng(3)
    operands = tuple(normal(rng, s) for s in shapes)
    return applied(TABLE["Einsum"], Case(operands, {"equation": equation}))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bA, bC", [(2, 3), (2, 4)]),  # without an arrow, upper case comes first
        ("z...B", [(2, 3, 4)]),
        ("aab,bbc,cd,d->a", [(2, 2, 3), (3, 3, 4), (4, 5), (5,)]),
        ("...,...", [(2, 3), (3,)]),  # ellipses of different length align from behind
        ("ab,cd,bc->ad", [(5, 6), (7, 4), (6, 7)]),
        (",i->i", [(), (3,)]),
        ("ij,jk->ki", [(0, 3), (3, 2)]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
        ("i,i,i->", [(4,), (1,), (4,)]),
    ],
)
def test_it_is_numpy_s(equation, shapes):
    a = einsum(equation, *shapes)
    (y,) = a.primal().values()
    np.testing.assert_allclose(y, np.einsum(equation, *a.feeds.values()), rtol=1e-12)
    check_expansion(a)
    if y.size:
        check_vjp(a)


@pytest.mark.parametrize(
    ("equation", "shapes", "said"),
    [
        ("ij,jk", [(2, 3)], "operands"),
        ("ij", [(2, 3, 4)], "does not fit 3 dimensions"),
        ("i-j", [(2, 3, 4)], "does not fit"),
        ("...i->i", [(2, 3)], "lacks the ellipsis"),
        ("i->ii", [(2,)], "repeats a label"),
        ("i->j", [(2,)], "one of its own"),
        ("ii", [(2, 3)], "diagonal of 2 by 3"),
        ("ij,jk", [(2, 3), (4, 2)], "do not broadcast"),
    ],
)
def test_what_is_no_equation_of_these_operands_is_refused(equation, shapes, said):
    b = Builder(OPS)
    operands = [b.input(f"x{k}", DType.FLOAT32, s) for k, s in enumerate(shapes)]
    with pytest.raises(ValueError, match=said):
        b.op("Einsum", *operands, equation=equation)


def test_attention_is_two_matrix_products():
    query, key = (2, 3, 5, 4), (2, 3, 6, 4)
    written_out = expand(einsum("bhqd,bhkd->bhqk", query, key).graph)
    assert [node.op for node in written_out.nodes] == ["Transpose", "MatMul", "Identity"]
    written_out = expand(einsum("bqhd,bkhd->bhqk", (2, 5, 3, 4), (2, 6, 3, 4)).graph)
    assert [node.op for node in written_out.nodes].count("Transpose") == 2


def test_the_order_of_products_keeps_them_small():
    a = einsum("ab,cd,bc->ad", (5, 6), (7, 4), (6, 7))
    written_out = expand(a.graph)
    made = [v.shape for node in written_out.nodes for v in node.makes()]
    assert all(is_static(dims) and size(dims or ()) <= 7 * 6 for dims in made)
    check_expansion(a)
