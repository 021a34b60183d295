"""Numbers that are equal by construction stay one object, and all others stay apart."""

import numpy as np
import pytest

from gradcli.numbers import Ball, Series
from gradcli.numbers.boxed import plain


@pytest.fixture
def n():
    n = Ball()
    n.alike = True
    return n


def ids(x):
    return [id(v) for v in plain(x).reshape(-1)]


ROW = np.array([0.3, 1.7, -0.9, 0.3])

ALIKE = {
    "of one operand": lambda n, x: n.tanh(x),
    "of two": lambda n, x: n.exp(x) * x - 0.1,
    "of an integer tensor": lambda n, x: n.power(n.exp(x), np.array([3, 3, 3, 3])),
    "extremes": lambda n, x: n.maximum(n.exp(x), n.minimum(n.sin(x), n.zero)),
    "negated": lambda n, x: -n.sqrt(n.exp(x)),
    "in place": lambda n, x: n.overlap_add(n.reshape(n.exp(x), (4, 1)), (4,), (1,), (1,)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_made_of_the_same_is_the_same(name, n):
    there = ids(ALIKE[name](n, n.lift(ROW)))
    assert there[0] == there[3]
    assert len(set(there)) == 3


@pytest.mark.parametrize("name", ALIKE)
def test_the_numbers_are_those_that_are_made_one_by_one(name, n):
    together, apart = (ALIKE[name](m, m.lift(ROW)) for m in (n, Ball()))
    assert np.all(n.overlap(together, apart))
    np.testing.assert_array_equal(n.radius(together), n.radius(apart))


def test_sums_extremes_and_products_of_the_same_rows_are_the_same(n):
    rows = n.tanh(n.lift(np.stack([ROW, 2 * ROW, ROW])))
    weights = n.lift(np.array([[1.0, 0.1, 1.0], [3.0, 0.7, 3.0], [0.2, 0.9, 0.2], [5.0, 1.0, 5.0]]))
    for made in (n.sum(rows, (1,), True), n.max(rows, (1,), True), n.min(rows, (1,), True)):
        assert len(set(ids(made))) == 2
    there = np.reshape(ids(n.matmul(rows, weights)), (3, 3))
    assert there[0].tolist() == there[2].tolist()
    assert there[:, 0].tolist() == there[:, 2].tolist()
    assert len(set(there.reshape(-1).tolist())) == 4


@pytest.mark.parametrize("shared", [0, 1])
def test_products_of_copies_in_a_batch_are_the_same(shared, n):
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 3, 4, 5))
    many = n.exp(n.lift(np.stack([one[0], one[1], one[0]])))
    other = n.sin(n.lift(np.swapaxes(two[shared], 0, 1)[None]))
    there = n.matmul(many, other)
    assert ids(there[0]) == ids(there[2])
    assert not set(ids(there[0])) & set(ids(there[1]))
    apart = Ball()
    again = apart.matmul(apart.exp(apart.lift(np.stack([one[0], one[1], one[0]]))), other)
    assert np.all(n.overlap(there, again))


def test_equal_by_construction_is_equal_and_equal_by_value_alone_is_open(n):
    x = n.lift(ROW)
    tie = n.equal(n.tanh(x)[0:1], n.tanh(x)[3:4])
    assert not isinstance(tie[0], bool), "two calls: nobody knows that they are of the same"
    y = n.tanh(x)
    assert n.equal(y[0:1], y[3:4]).tolist() == [True]
    assert not n.undecided


def test_an_open_choice_is_not_the_next_open_choice(n):
    # Which branch holds is unknown at both places, and may be another one at each.
    ball = n.arb(0.0, 1.0)
    doubt = n.less(n.lift(np.array([ball, n.arb(0.0, 1.0), None], object)[:-1]), n.zero)
    made = n.where(doubt, n.full((2,), 1.0), n.full((2,), 2.0))
    assert len(set(ids(made))) == 2


def test_what_is_no_number_is_not_equal_to_itself(n):
    nothing = n.log(n.lift(np.array([-1.0, -1.0])))
    assert not isinstance(n.equal(nothing[0:1], nothing[1:2])[0], bool)


def test_slopes_meet_where_series_tie_by_construction():
    n = Series()
    n.ball.alike = True
    x = n.lift_along(np.array([[0.3, 0.3]]), np.array([[1.0, 2.0]]))
    top = n.max(n.tanh(x), (1,), False)
    assert not n.undecided
    assert n.ties == 1
    np.testing.assert_allclose(n.lower(n.slope(top)), 2.0 / np.cosh(0.3) ** 2)
    low = n.min(n.tanh(x), (1,), False)
    np.testing.assert_allclose(n.lower(n.slope(low)), 1.0 / np.cosh(0.3) ** 2)
