"""Baselines: what is kept, and what counts as a change."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gradcli.comparison import Block, Record, Snapshot, Speed, beside, changes, uncompared
from gradcli.comparison.baseline import PRODUCTS, kept

U = 1e-15


def block(value, u=U, name="y/x"):
    value = np.asarray(value, float)
    return kept(Block(name, (), value.shape, value, np.broadcast_to(u, value.shape) + 0.0, {}))


def shot(*blocks, **methods):
    return Snapshot("a" * 64, {"operator": "jacobian"}, "certified", blocks, methods)


def record(error=1e-7, u=1e-15, dtype="float32", speed=None):
    return Record(dtype, error, u, speed)


def normal(size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


# ---- derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(), (3,), (8, 8), (1000,)])
def test_what_is_the_same_has_not_changed(size):
    assert changes(shot(block(normal(size))), shot(block(normal(size)))) == ()


def test_each_element_of_a_small_one_is_kept_and_its_change_is_told():
    now = normal((2, 3))
    now[1, 2] += 1e-9
    (change,) = changes(shot(block(normal((2, 3)))), shot(block(now)))
    assert (change.what, change.where, change.fails) == ("derivative", "y/x[1, 2]", True)
    assert change.by == pytest.approx(1e-9, rel=1e-2)
    assert change.uncertainty < 1e-10
    assert "1 of 6 elements" in change.text


def test_a_large_one_is_known_by_a_few_products():
    made = block(normal(1000))
    assert len(made.values) == PRODUCTS
    assert made.norm == pytest.approx(np.linalg.norm(normal(1000)), rel=1e-11)


@pytest.mark.parametrize("where", [0, 17, 999])
def test_any_one_element_of_a_large_one_that_changes_is_found(where):
    now = normal(1000)
    now[where] *= 1 + 1e-3
    by = abs(now[where] - normal(1000)[where])
    (change,) = changes(shot(block(normal(1000))), shot(block(now)))
    assert change.by == pytest.approx(by, rel=1e-6)


def test_changes_that_cancel_in_the_sum_are_found():
    now = normal(1000)
    now[3] += 1e-6
    now[4] -= 1e-6
    (change,) = changes(shot(block(normal(1000))), shot(block(now)))
    assert 0.5e-6 < change.by < 4e-6


def test_products_are_the_same_for_ever():
    # Baselines of other days rest on these signs.
    assert block(np.arange(65.0)).values[:3] == (-334.0, -76.0, -272.0)


@pytest.mark.parametrize("size", [(3,), (1000,)])
def test_what_is_uncertain_by_more_has_not_changed(size):
    now = normal(size) + 1e-9
    assert changes(shot(block(normal(size), 1e-9)), shot(block(now, 1e-9))) == ()


def test_what_another_machine_rounds_otherwise_has_not_changed():
    assert changes(shot(block([1.0, 1e-9], 0.0)), shot(block([1.0, 1e-9 + 1e-13], 0.0))) == ()


def test_of_a_small_one_elements_that_both_know_are_compared():
    whole, part = normal(3), normal(3)
    part[1] = np.nan
    for then, now in ((whole, part), (part, whole), (part, part)):
        assert changes(shot(block(then)), shot(block(now))) == ()
        (change,) = changes(shot(block(then)), shot(block(now * 2)))
        assert change.by == pytest.approx(np.nanmax(np.abs(part)))


def test_elements_that_are_not_known_any_more_leave_it_undecided():
    whole, part = normal(3), normal(3)
    part[1] = np.nan
    assert uncompared(shot(block(whole)), shot(block(part))) == ("y/x",)
    assert "not all of it could be compared" in " ".join(
        beside(shot(block(whole)), shot(block(part)))
    )
    assert uncompared(shot(block(part)), shot(block(whole))) == (), "all that was kept is compared"
    assert uncompared(shot(block(part)), shot(block(part))) == ()
    assert uncompared(shot(block(whole)), shot()) == ("y/x",)


def test_of_a_large_one_nothing_is_compared_where_other_elements_are_known():
    whole, part = normal(100), normal(100)
    part[1] = np.nan
    for then, now in ((whole, part), (part, whole)):
        assert changes(shot(block(then)), shot(block(now * 2))) == ()
        assert uncompared(shot(block(then)), shot(block(now))) == ("y/x",)
    assert uncompared(shot(block(part)), shot(block(part))) == ()


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "now", "fails"),
    [
        (record(2e-6), record(3e-5), True),
        (record(3e-5), record(2e-6), False),
        (record(1e-14, dtype="float64"), record(1e-12, dtype="float64"), True),
    ],
)
def test_a_digit_lost_is_a_finding_and_one_gained_is_none(then, now, fails):
    (change,) = changes(shot(forward=then), shot(forward=now))
    assert (change.what, change.where, change.fails) == ("error", "forward", fails)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (record(2e-6), record(1.9e-5)),
        (record(1e-9), record(9e-7)),  # both are what float32 comes to, and chance
        (record(1e-12, 1e-9, "float64"), record(5e-9, 1e-9, "float64")),  # uncertain by as much
        (record(1e-12, math.inf, "float64"), record(1.0, math.inf, "float64")),
        (record(None), record(1e-3)),
    ],
)
def test_less_than_a_digit_or_less_than_is_certain_is_nothing(then, now):
    assert changes(shot(forward=then), shot(forward=now)) == ()


# ---- speeds --------------------------------------------------------------------------------------


def costs(low, median, high):
    return shot(reverse=record(speed=Speed(low, median, high)))


@pytest.mark.parametrize(
    ("now", "fails"), [(costs(3.4, 3.6, 4.0), True), (costs(0.9, 1.0, 1.1), False)]
)
def test_a_cost_that_changed_by_much_and_beyond_its_spread_is_told(now, fails):
    (change,) = changes(costs(1.9, 2.0, 2.2), now)
    assert (change.what, change.where, change.fails) == ("speed", "reverse", fails)


@pytest.mark.parametrize("now", [costs(2.7, 2.9, 3.1), costs(2.1, 3.6, 4.0), costs(0.5, 1.0, 2.1)])
def test_a_cost_that_changed_by_little_or_within_its_spread_is_not(now):
    assert changes(costs(1.9, 2.0, 2.2), now) == ()


def test_on_another_machine_more_is_needed():
    then, now = costs(1.9, 2.0, 2.2), costs(3.4, 3.6, 4.0)
    assert changes(then, now, same_machine=False) == ()
    assert len(changes(then, costs(6.5, 7.0, 7.5), same_machine=False)) == 1


def test_a_forward_pass_counts_where_the_file_is_another_on_the_same_machine():
    then = replace(shot(), forward=Speed(0.9, 1.0, 1.1))
    now = replace(then, forward=Speed(1.9, 2.0, 2.1))
    assert changes(then, now) == (), "the same file takes as long as it did"
    other = replace(now, sha256="b" * 64)
    (change,) = changes(then, other)
    assert (change.what, change.where, change.fails) == ("speed", "a forward pass", True)
    assert changes(then, other, same_machine=False) == ()
    (change,) = changes(other, then)
    assert not change.fails


def test_a_cost_that_is_not_measured_any_more_is_told():
    then = shot(reverse=record(speed=Speed(1.0, 1.0, 1.0)), forward=record())
    now = shot(reverse=record(), forward=record())
    assert beside(then, now) == ("too slow now for its cost to be measured: reverse",)
    assert beside(now, now) == ()


# ---- besides -------------------------------------------------------------------------------------


def test_another_file_and_other_methods_are_told_and_are_no_findings():
    then = shot(forward=record(), reverse=record())
    now = replace(shot(forward=record(), finite=record()), sha256="b" * 64)
    assert changes(then, now) == ()
    said = " ".join(beside(then, now))
    for words in ("sha256 bbbbbbbbbbbb", "then: reverse", "not then: finite"):
        assert words in said
