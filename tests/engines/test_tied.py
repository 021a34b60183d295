"""Which kinks at the point matter to what was asked."""

from typing import Any

import numpy as np
import pytest

from gradcli.engines.base import around, certainly, weigh
from tests.engines.problems import problem


def relu_and_idle(b, x):
    return b.op("Relu", x) + b.op("Abs", x) * b.constant(np.zeros(3))


def twice(b, x):
    return b.op("Relu", b.op("Relu", x))


def pooled(b, x):
    """Windows of two zeros, of two that tie, of a lone winner, and of a Relu's kink and a zero."""
    return b.op("MaxPool", b.op("Relu", x), kernel_shape=(2,), strides=(2,))


def shifted(b, x):
    """A tie of two that always move alike."""
    return b.op("Max", x * 2.0, x + x)


def masked(b, x):
    return b.op("Relu", x) * b.constant(np.array([0.0, 1.0, 1.0]))


AT = [0.0, 2.0, -1.0]
WINDOWS = [[[-1.0, -2.0, 1.0, 1.0, -1.0, 3.0, 0.0, -1.0]]]
CASES: dict[str, Any] = {
    "beside one that is multiplied by 0": (relu_and_idle, AT, {"Relu": 1, "Abs": 0}),
    "one after the other": (twice, AT, {"Relu": 1}),
    "of windows": (pooled, WINDOWS, {"Relu": 1, "MaxPool": 2}),
    "of what moves alike": (shifted, AT, {"Max": 0}),
    "masked later": (masked, AT, {"Relu": 0}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("exact", [False, True])
def test_which_ties_matter(case, exact):
    f, at, wanted = CASES[case]
    asked = problem(f, at)
    watch = around(asked)
    ties = watch.ties()
    found = weigh(asked, watch, ties)
    if exact:
        pytest.importorskip("flint", reason="needs the extra `certified`")
        found = certainly(asked, watch, ties, found)
        assert all(t.certified for t in found.values())
    ops = {near.node: near.op for near in ties}
    assert {ops[name] for name in found} == set(wanted)
    for name, tied in found.items():
        assert (tied.matters, tied.many) == (wanted[ops[name]] > 0, wanted[ops[name]])


def test_it_is_that_of_what_was_asked():
    for tangent, matters in (([0.0, 1.0, 1.0], False), ([1.0, 0.0, 0.0], True)):
        asked = problem(lambda b, x: b.op("Relu", x), AT, "jvp", tangents={"x": np.array(tangent)})
        watch = around(asked)
        (tied,) = weigh(asked, watch, watch.ties()).values()
        assert tied.matters is matters


def test_the_element_that_matters_is_named():
    asked = problem(masked, [0.0, 0.0, 1.0])
    watch = around(asked)
    (tied,) = weigh(asked, watch, watch.ties()).values()
    assert (tied.index, tied.ties, tied.many) == ((1,), 2, 1)


def step_of(other):
    """x where it is above 0, and something else elsewhere: a jump, unless that is 0."""
    return lambda b, x: b.where(x > 0.0, x, other, like=x)


@pytest.mark.parametrize(
    ("f", "matters", "jumps"),
    [
        (step_of(1.0), True, True),
        (step_of(0.0), True, False),
        (lambda b, x: b.op("Floor", x) + x, True, True),
        (lambda b, x: b.op("Floor", x) * 0.0 + x, False, False),
    ],
)
def test_of_a_step_its_jump_or_the_slopes_beside_it_matter(f, matters, jumps):
    asked = problem(f, AT)
    watch = around(asked)
    (tied,) = weigh(asked, watch, watch.ties()).values()
    assert (tied.matters, tied.jumps) == (matters, jumps)
