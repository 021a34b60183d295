"""What is asked for: which operator, and along which directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from gradcli.errors import InputError, UnsupportedError, UsageError
from gradcli.onnxfile import Model
from gradcli.problem import (
    JACOBIAN_ROWS,
    check_directions,
)
from tests.problem.asking import F32, NODE, X, answers, ask, loaded, network, refused

# ---- operators ----------------------------------------------------------------------------------


def test_one_number_gives_the_gradient():
    p = ask(network(), {"x": X}, of=["y[0,1]"])
    assert p.operator == "gradient"
    assert p.keys == (("", "x"),)
    np.testing.assert_array_equal(p.cotangents["y[0,1]"], 1.0)
    assert (p.rows, p.columns) == (1, 6)


def test_few_numbers_give_the_jacobian():
    p = ask(network(), {"x": X})
    assert p.operator == "jacobian"
    assert (p.rows, p.columns) == (8, 6)
    assert not p.tangents
    assert not p.cotangents


@pytest.mark.parametrize("rows", [JACOBIAN_ROWS, JACOBIAN_ROWS + 1])
def test_many_numbers_give_a_vjp_with_a_random_cotangent_and_say_so(rows: int):
    model = loaded([NODE("Tanh", ["x"], ["y"])], {"x": ["N"]})
    p = ask(model, {"x": np.zeros(rows, F32)})
    if rows == JACOBIAN_ROWS:
        assert p.operator == "jacobian"
        return
    assert p.operator == "vjp"
    assert any("cotangent is random" in note for note in p.notes)
    again, other = (ask(model, {"x": np.zeros(rows, F32)}, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(p.cotangents["y"], again.cotangents["y"])
    assert not np.array_equal(p.cotangents["y"], other.cotangents["y"])


def test_many_entries_give_a_vjp():
    assert ask(network_of(900, 1100), {"x": np.zeros(1100, F32)}).operator == "jacobian"
    assert ask(network_of(900, 1200), {"x": np.zeros(1200, F32)}).operator == "vjp"


def network_of(rows: int, columns: int) -> Model:
    weights = np.zeros((rows, columns), F32)
    return loaded([NODE("MatMul", ["w", "x"], ["y"])], {"x": [columns]}, constants={"w": weights})


@pytest.mark.parametrize(("what", "operator"), [("tangents", "jvp"), ("cotangents", "vjp")])
def test_a_direction_says_what_is_asked(what: str, operator: str):
    name, shape = ("x", (2, 3)) if what == "tangents" else ("y", (2, 4))
    p = ask(network(), {"x": X}, **{what: {name: np.ones(shape)}})
    assert p.operator == operator
    np.testing.assert_array_equal(getattr(p, what)[name], np.ones(shape))
    assert getattr(p, what)[name].dtype == np.float64
    assert p.notes == ()
    answers(p)


def test_a_gradient_of_several_numbers_is_refused_with_a_way_out():
    refused(UsageError, "y has 8", "--of 'y[", "jacobian", "vjp", operator="gradient")


def test_an_operator_that_is_none():
    refused(UsageError, "'hessian'", "gradient, jacobian, jvp, vjp", operator="hessian")


# ---- directions ---------------------------------------------------------------------------------

BAD: Mapping[str, tuple[Any, Sequence[str]]] = {
    "another shape": ({"x": np.ones((2, 4))}, ["'x'", "[2, 4]", "[2, 3]"]),
    "another name": ({"q": np.ones((2, 3))}, ["q", "x"]),
    "too many": ({"x": np.ones((2, 3)), "w": np.ones((3, 5))}, ["w"]),
    "none": ({}, ["'x'"]),
    "text": ({"x": np.full((2, 3), "a")}, ["<U1"]),
    "complex": ({"x": np.ones((2, 3), complex)}, ["complex128"]),
    "truth": ({"x": np.ones((2, 3), bool)}, ["bool"]),
    "not a number": ({"x": np.full((2, 3), np.nan)}, ["NaN"]),
    "infinite": ({"x": np.full((2, 3), np.inf)}, ["infinity"]),
}


@pytest.mark.parametrize("case", BAD)
def test_tangents_that_do_not_fit(case: str):
    given, words = BAD[case]
    refused(InputError, "--tangent", *words, tangents=given)
    p = ask(network(), {"x": X}, operator="jvp")
    with pytest.raises(InputError, match="--tangent"):
        check_directions(p, given, "tangent")


def test_cotangents_that_do_not_fit():
    refused(InputError, "--cotangent", "'y'", "[2, 3]", "[2, 4]", cotangents={"y": np.ones((2, 3))})


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "vjp"])
def test_a_tangent_is_for_a_jvp_only(operator: str):
    ones = {"x": np.ones((2, 3))}
    refused(UsageError, "--tangent", "jvp", operator=operator, of=["y[0,0]"], tangents=ones)


def test_a_cotangent_is_for_a_vjp_only():
    refused(UsageError, "--cotangent", "vjp", operator="jvp", cotangents={"y": np.ones((2, 4))})


def test_the_empty_name_stands_for_the_only_tensor():
    p = ask(network(), {"x": X}, tangents={"": np.ones((2, 3))})
    np.testing.assert_array_equal(p.tangents["x"], np.ones((2, 3)))
    one, two = {"x": 2 * np.ones((2, 3))}, {"": np.ones((2, 3))}
    np.testing.assert_array_equal(check_directions(p, one | two, "tangent")["x"], one["x"])
    refused(InputError, "'x'", "x, w", wrt=["x", "w"], tangents={"": np.ones((2, 3))})


def test_what_is_known_to_have_no_derivative_is_not_called_unknown():
    model = loaded(
        [NODE("RandomNormalLike", ["x"], ["r"], name="r"), NODE("Mul", ["x", "r"], ["y"])],
        {"x": [2, 3]},
    )
    with pytest.raises(
        UnsupportedError, match=r"^there is no derivative of: RandomNormalLike \(node 'r': it draws"
    ):
        ask(model, {"x": X})
