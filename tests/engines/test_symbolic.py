"""Symbolic: every operator against a witness, levels against each other, tails, kinks, refusals."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from gradcli.engines import ENGINES, Program, symbolic
from gradcli.engines.base import Engine, Map, Options
from gradcli.engines.symbolic.code import on_arrays, on_floats
from gradcli.engines.symbolic.expanded import Expanded
from gradcli.engines.symbolic.factored import Factored
from gradcli.engines.symbolic.local import Locals, derivative, symbols
from gradcli.engines.symbolic.plain import Plain
from gradcli.engines.symbolic.size import Size, count, measure
from gradcli.engines.symbolic.stable import stable
from gradcli.errors import CannotError
from gradcli.graph import Builder, DType, Var
from gradcli.ops import OPS, Table
from gradcli.problem import Problem
from tests.engines.problems import Function, estimate, problem, random_net
from tests.ops.checks import Applied, complex_step, draw
from tests.ops.rows import TABLE
from tests.ops.table import Row

SMOOTH = ("Tanh", "Sigmoid", "Softplus", "Gelu")

# ---- every operator, without a rule ------------------------------------------------------------

NO_RULES = OPS.replace(
    *(replace(card, jvp=None, vjp=None, batch=None, expand=None) for card in OPS.values())
)

LABELS = {"ai.onnx.ml::LinearClassifier", "ai.onnx.ml::SVMClassifier"}

NO_EXPRESSION = {"MaxPool", "TopK", "DynamicQuantizeLinear"} | LABELS
"""Operators whose other results are whole numbers: indices of the greatest elements, quanta."""

BY_VALUE = {"GridSample", "RoiAlign", "DeformConv"} | {
    *("com.microsoft::DynamicQuantizeMatMul", "com.microsoft::DynamicQuantizeLSTM"),
}
"""Operators with places or quanta inside, which operands without a value would have to tell."""

ROWS = [
    row
    for op, row in TABLE.items()
    if OPS[op].kind not in {"flat", "opaque"} and OPS[op].holomorphic
]


def asked(a: Applied, table: Table = NO_RULES) -> Problem:
    return Problem(
        None,
        a.graph,
        tuple(a.feeds),
        tuple(a.smooth),
        "jvp",
        a.feeds,
        {},
        {},
        DType.FLOAT64,
        table=table,
    )


def known_shapes(a: Applied) -> bool:
    values = (*a.graph.inputs, *a.graph.outputs)
    return all(v.shape is not None and all(isinstance(d, int) for d in v.shape) for v in values)


def image(engine: Map, p: Problem, directions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What directions are taken to, zeros where a tangent is absent."""
    found = engine.apply(p.point, directions).values
    count = len(next(iter(directions.values())))
    return {name: found.get(name, np.zeros((count, *p.shape(name)))) for name in p.of}


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(
        got, want, rtol=tolerance, atol=tolerance * np.max(np.abs(want), initial=0.0) + 1e-300
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
@pytest.mark.parametrize("trial", range(3))
def test_an_operator_needs_no_rule_but_its_impl(row: Row, trial: int) -> None:
    a = draw(row, trial)
    if not a.feeds or not a.smooth or not known_shapes(a):
        pytest.skip("nothing to differentiate, or a shape that hangs on the run")
    p, directions = asked(a), a.directions(list(a.feeds), count=3)
    got = image(Factored(p, 3), p, directions)
    for k in range(3):
        want = complex_step(a, {name: v[k] for name, v in directions.items()})
        for name in a.smooth:
            close(got[name][k], want[name], 1e-11)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
def test_both_levels_agree_on_an_operator(row: Row) -> None:
    a = draw(row, 0)
    if not a.feeds or not a.smooth or not known_shapes(a):
        pytest.skip("nothing to differentiate, or a shape that hangs on the run")
    p, directions = asked(a), a.directions(list(a.feeds), count=2)
    size = measure(p)
    assert size is not None
    if row.op in NO_EXPRESSION and len(a.graph.outputs) > 1:
        with pytest.raises(
            CannotError, match=r"which element is the greatest|free symbols has no value"
        ):
            Expanded(p, size)
        return
    if row.op in BY_VALUE:
        with pytest.raises(CannotError, match="has no value"):
            Expanded(p, size)
        return
    got, want = image(Expanded(p, size), p, directions), image(Factored(p, 2), p, directions)
    for name in p.of:
        close(got[name], want[name], 1e-11)


def ready(made: Map) -> Engine:
    return replace(symbolic.ENGINE, prepare=lambda *_: made)


# ---- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", range(12))
def test_a_random_network_agrees_with_the_complex_step(trial: int) -> None:
    rng = np.random.default_rng(trial)
    f, features = random_net(rng, SMOOTH)
    p = problem(f, rng.standard_normal((2, features)))
    want = Program(ENGINES["complex-step"], p).run().blocks["y", "x"]
    size = measure(p)
    assert size is not None
    for made in (Expanded(p, size), Factored(p, p.columns)):
        program = Program(ready(made), p)
        close(program.run().blocks["y", "x"], want, 1e-12)


def mlp(*widths: int, activation: str = "Tanh") -> Function:
    rng = np.random.default_rng(7)
    layers = [
        (rng.standard_normal((m, n)) / np.sqrt(m), rng.standard_normal(n))
        for m, n in itertools.pairwise(widths)
    ]

    def f(b: Builder, x: Var) -> Var:
        for k, (weights, bias) in enumerate(layers):
            x = b.op("Gemm", x, b.constant(weights), b.constant(bias))
            x = b.op(activation, x) if k < len(layers) - 1 else x
        return x

    return f


def test_plain_diff_agrees_on_a_tiny_network() -> None:
    p = problem(mlp(2, 4, 3), np.array([[0.3, -0.7]]))
    want = Program(symbolic.ENGINE, p).run().blocks["y", "x"]
    program = Program(symbolic.PLAIN, p)
    close(program.run().blocks["y", "x"], want, 1e-13)
    assert program.level.startswith("plain diff (27 parameters, ")


def test_the_level_follows_from_the_size() -> None:
    tiny = Program(symbolic.ENGINE, problem(mlp(2, 8, 1), np.ones((1, 2))))
    assert tiny.level == "expanded (33 parameters, 42 operations)"
    large = Program(symbolic.ENGINE, problem(mlp(40, 40, 1), np.ones((1, 40))))
    assert large.level == "factored (4 nodes, 3 local derivatives)"


def test_a_program_moves_to_another_point() -> None:
    f, at, there = mlp(3, 4, 2), np.array([[0.1, 0.2, 0.3]]), np.array([[-1.0, 2.0, 0.5]])
    want = Program(symbolic.ENGINE, problem(f, there)).run().blocks["y", "x"]
    for engine in (symbolic.ENGINE, symbolic.PLAIN):
        moved = Program(engine, problem(f, at)).run(point={"x": there})
        close(moved.blocks["y", "x"], want, 1e-13)


def test_inputs_that_are_not_differentiated_are_read_at_each_run() -> None:
    b = Builder(OPS)
    x, w = b.input("x", DType.FLOAT64, (2,)), b.input("w", DType.FLOAT64, (2,))
    y, z = b.rename(b.op("Tanh", x * w), "y"), b.rename(w * w, "z")
    point = {"x": np.array([0.5, -1.0]), "w": np.array([2.0, 3.0])}
    p = Problem(None, b.graph([y, z]), ("x",), ("y", "z"), "jacobian", point, {}, {}, DType.FLOAT64)
    other = np.array([-1.0, 0.25])
    want = np.diag(other / np.cosh(point["x"] * other) ** 2)
    size = measure(p)
    assert size is not None
    for made in (Expanded(p, size), Plain(p, size), Factored(p, 2)):
        program = Program(ready(made), p)
        blocks = program.run(point={"w": other}).blocks
        close(blocks["y", "x"], want, 1e-14)
        assert not blocks["z", "x"].any()


def test_many_outputs_take_tangents_and_many_inputs_cotangents() -> None:
    for f, x in ((mlp(1, 5, 6), np.ones((1, 1))), (mlp(6, 5, 1), np.ones((1, 6)))):
        p = problem(f, x)
        size = measure(p)
        assert size is not None
        assert size.sweeps == 1
        want = Program(ENGINES["complex-step"], p).run().blocks["y", "x"]
        close(Program(symbolic.ENGINE, p).run().blocks["y", "x"], want, 1e-13)


# ---- tails and kinks -----------------------------------------------------------------------------

SLOPES = {
    "Tanh": lambda x: mpmath.sech(x) ** 2,
    "Sigmoid": lambda x: 1 / (2 * mpmath.cosh(x / 2)) ** 2,
    "Softplus": lambda x: 1 / (1 + mpmath.exp(-x)),
    "Erf": lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x),
    "Gelu": lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x),
}


@pytest.mark.parametrize("op", SLOPES)
@pytest.mark.parametrize("level", [Expanded, Factored])
def test_derivatives_keep_their_digits_in_the_tails(op: str, level: type) -> None:
    x = np.array([-800.0, -60, -25, -13, -6, -1, -1e-9, 0, 1e-9, 1, 6, 13, 25, 60, 800])
    p = problem(lambda b, x: b.op(op, x), x)
    made = Factored(p, 1) if level is Factored else Expanded(p, Size(0, 0, 0))
    got = made.apply(p.point, {"x": np.ones((1, *x.shape))}).values["y"][0]
    with mpmath.workdps(60):
        want = np.array([float(SLOPES[op](mpmath.mpf(v))) for v in x])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-300)


def test_what_overflows_in_python_floats_is_infinite() -> None:
    p = problem(lambda b, x: b.op("Exp", x), np.array([800.0, 1.0]))
    found = Program(symbolic.ENGINE, p).run()
    np.testing.assert_allclose(np.diag(found.blocks["y", "x"]), [np.inf, np.e])


def test_a_quotient_by_a_zero_that_was_chosen_is_infinite() -> None:
    x, t = sympy.symbols("x t", real=True)
    chosen = sympy.Piecewise((x, x > 0), (0, True))
    found = on_floats([x], [(t, chosen)], [1 / t, t])
    np.testing.assert_array_equal(found(-1.0), [np.inf, 0.0])
    np.testing.assert_array_equal(found(4.0), [0.25, 4.0])


def test_a_softmax_of_large_numbers_is_shifted() -> None:
    x = np.array([[1000.0, 1001.0, -1000.0]])
    p = problem(lambda b, x: b.op("Softmax", x), x)
    e = np.exp(x - 1001.0)[0]
    y = e / e.sum()
    want = np.diag(y) - np.outer(y, y)
    program = Program(symbolic.ENGINE, p)
    assert program.level.startswith("expanded")
    close(program.run().blocks["y", "x"].reshape(3, 3), want, 1e-14)


@pytest.mark.parametrize("size", [1, 2])
def test_the_shift_of_a_softmax_holds_nothing_else_still(size: int) -> None:
    """What a softmax is shifted by counts as a constant there alone."""
    x = np.array([[0.3, -0.2]])[:, :size]

    def net(b: Builder, x: Var) -> Var:
        h = b.op("Exp", x)
        return b.op("Softmax", h) + b.op("ReduceMax", h, b.ints([1])) + h

    h = np.exp(x[0])
    y = np.exp(h) / np.exp(h).sum()
    first = np.eye(size)[np.zeros(size, int)]
    want = (np.diag(y) - np.outer(y, y) + first + np.eye(size)) * h
    program = Program(symbolic.ENGINE, problem(net, x))
    assert program.level.startswith("expanded")
    close(program.run().blocks["y", "x"].reshape(size, size), want, 1e-14)


@pytest.mark.parametrize("level", ["expanded", "plain", "factored"])
@pytest.mark.parametrize(("op", "at_zero"), [("Relu", 1.0), ("LeakyRelu", 1.0), ("Abs", 1.0)])
def test_at_a_kink_the_piece_that_holds_there_counts(level: str, op: str, at_zero: float) -> None:
    p = problem(lambda b, x: b.op(op, x), np.zeros(1))
    size = Size(0, 0, 0)
    levels: dict[str, Callable[[], Map]] = {
        "expanded": lambda: Expanded(p, size),
        "plain": lambda: Plain(p, size),
        "factored": lambda: Factored(p, 1),
    }
    assert levels[level]().apply(p.point, {"x": np.ones((1, 1))}).values["y"] == at_zero


@pytest.mark.parametrize("repeat", [1, 3])
def test_what_a_choice_drops_has_no_say(repeat: int) -> None:
    """Backwards and forwards: the root of a negative number is NaN, and so is its slope."""

    def f(b: Builder, x: Var) -> Var:
        y = b.where(x > 0.0, b.op("Exp", b.op("Sqrt", x)), x * x)
        return b.op("Concat", *[y] * repeat, axis=0)

    slope = np.exp(2.0) / 4.0
    found = estimate("symbolic", problem(f, [4.0, -3.0])).blocks["y", "x"]
    np.testing.assert_allclose(found, np.tile(np.diag([slope, -6.0]), (repeat, 1)), rtol=1e-14)


def test_a_square_is_flat_at_zero() -> None:
    p = problem(lambda b, x: b.op("Pow", x, b.constant(2.0)), np.array([0.0, -3.0]))
    for made in (Expanded(p, Size(0, 0, 0)), Factored(p, 1)):
        got = made.apply(p.point, {"x": np.ones((1, 2))}).values["y"][0]
        np.testing.assert_array_equal(got, [0.0, -6.0])


def test_powers_by_an_array_are_finite_at_zero() -> None:
    exponents = np.array([0.0, 1.0, 2.0, 3.5])
    p = problem(lambda b, x: b.op("Pow", x, b.constant(exponents)), np.zeros(4))
    for made in (Expanded(p, Size(0, 0, 0)), Factored(p, 1)):
        got = made.apply(p.point, {"x": np.ones((1, 4))}).values["y"][0]
        np.testing.assert_array_equal(got, [0.0, 1.0, 0.0, 0.0])


def test_of_what_is_written_down_as_no_number_nothing_is_claimed() -> None:
    """A quotient of exponentials that vanish, all of them: 0 / 0."""
    p = problem(lambda b, x: b.op("Softmax", x), np.array([[-800.0, -801.0], [0.0, 1.0]]))
    found = estimate("symbolic-plain", p)
    lost = np.isnan(found.blocks["y", "x"])
    assert lost[0, :, 0].all()
    assert not lost[1].any()
    assert np.isinf(found.uncertainty["y", "x"][lost]).all()
    assert np.all(found.uncertainty["y", "x"][~lost] == 0.0)
    assert "0 / 0" in found.notes[0]


# ---- what is out of reach ------------------------------------------------------------------------


def test_plain_diff_refuses_what_it_could_not_finish() -> None:
    cases = (
        (mlp(20, 20, 1), 20, "plain diff ends at about 300 parameters; this network has 441"),
        (mlp(200, 200, 1), 200, "far too large"),
        (mlp(2, 8, 8, 8, 8, 1), 2, "written out"),
        (mlp(2, 4, 4, 1, activation="Relu"), 2, r"'relu\w*' \(Relu\): a choice .* other choices"),
        (lambda b, x: b.op("ReduceMax", x), 4, r"a maximum of 4 expressions"),
        (lambda b, x: functools.reduce(lambda x, _: b.op("Tanh", x), range(1000), x), 1, "deeply"),
    )
    for f, features, reason in cases:
        with pytest.raises(CannotError, match=reason):
            symbolic.PLAIN.prepare(problem(f, np.linspace(0, 1, features)[None]), Options())


def test_a_rounding_has_no_derivative() -> None:
    def f(b: Builder, x: Var) -> Var:
        return b.cast(b.cast(b.op("Exp", x), DType.FLOAT8E4M3FN), DType.FLOAT64)

    with pytest.raises(CannotError, match=r"node 'cast\w*' \(Cast\): rounding to float8_e4m3fn"):
        symbolic.ENGINE.prepare(problem(f, np.ones(3)), Options())


def test_expressions_are_of_the_integers_they_were_made_for() -> None:
    b = Builder(OPS)
    x, i = b.input("x", DType.FLOAT64, (3,)), b.input("i", DType.INT64, (1,))
    y = b.rename(b.op("Gather", x * x, i, axis=0), "y")
    point = {"x": np.array([1.0, 2.0, 3.0]), "i": np.array([1])}
    p = Problem(None, b.graph([y]), ("x",), ("y",), "jacobian", point, {}, {}, DType.FLOAT64)
    program = Program(symbolic.ENGINE, p)
    np.testing.assert_array_equal(program.run().blocks["y", "x"], [[0.0, 4.0, 0.0]])
    with pytest.raises(CannotError, match="another value of the input 'i'"):
        program.run(point={"i": np.array([2])})


# ---- the parts -----------------------------------------------------------------------------------


def test_sympy_waits_until_it_is_needed() -> None:
    check = "import sys, gradcli.engines; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_an_elementwise_operator_is_differentiated_once() -> None:
    known = Locals()
    gelu = OPS["Gelu"].impl
    assert gelu is not None
    first, _ = known.get("Gelu", gelu, [np.zeros(3)], {"approximate": "none"})
    again, _ = known.get("Gelu", gelu, [np.ones((2, 2))], {"approximate": "none"})
    other, _ = known.get("Gelu", gelu, [np.zeros(3)], {"approximate": "tanh"})
    assert first is again
    assert first is not other
    assert len(known) == 2


@given(st.floats(allow_nan=False))
def test_generated_code_holds_every_float_exactly(number: float) -> None:
    n = symbols()
    x = n.symbols("x", ()).item()
    expression = x + n.full((), number).item()
    for y in (on_floats([x], [], [expression])(0.0)[0], on_arrays([x], expression)(np.zeros(()))):
        assert y == number


@given(st.floats(-5, 5), st.floats(-3, 3).filter(lambda c: abs(c) > 1e-3))
def test_a_stable_form_is_the_same_function(at: float, factor: float) -> None:
    x = sympy.Symbol("x", real=True)
    for f in (sympy.tanh(factor * x), x * sympy.tanh(x + factor), factor * sympy.tanh(x * x) ** 2):
        slope = derivative(f, x)
        before, after = (on_floats([x], [], [e])(at)[0] for e in (slope, stable(slope)))
        assert after == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_sizes_read_as_people_write_them() -> None:
    assert [count(k) for k in (105, 3400, 41_200, 12_000_000)] == ["105", "3.4k", "41k", "12M"]


@pytest.mark.parametrize("method", ["symbolic", "symbolic-plain"])
def test_a_batch_of_nothing_has_an_empty_derivative(method):
    p = problem(lambda b, x: b.op("Tanh", x), np.zeros((0, 3)))
    assert Program(ENGINES[method], p).run().blocks["y", "x"].shape == (0, 3, 0, 3)
