"""Certificates: what they enclose, what they refuse, and what no float could tell."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gradcli import api
from gradcli.comparison import Cause, Verdict
from gradcli.deadline import until
from gradcli.engines.base import Certificate
from gradcli.engines.base.memory import WORK
from gradcli.errors import CannotError, MissingExtraError, OutOfTimeError
from gradcli.graph import Builder, DType, Var
from gradcli.measure.certify import SHARE, price
from gradcli.measure.sample import draw
from gradcli.onnxfile import write
from gradcli.ops import OPS
from gradcli.problem import Problem
from tests.engines import problems

pytest.importorskip("flint", reason="needs python-flint, which an extra brings")

from gradcli.engines.certified import certify

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
SMOOTH = ("physics", "diabetes", "digits", "attention", "sequence")


def certified(problem: Problem) -> Certificate:
    return certify(problem, draw(problem))


def sample(name: str, **how) -> Problem:
    return api.ask(SAMPLES / f"{name}.onnx", dict(np.load(SAMPLES / f"{name}.npz")), **how)


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "jvp", "vjp"])
@pytest.mark.parametrize("name", SMOOTH)
def test_every_element_of_the_samples_is_known(name: str, operator: str):
    if operator == "gradient" and name not in ("physics", "diabetes"):
        pytest.skip("more than one output")
    asked = sample(name, operator=operator)
    found = certified(asked)
    assert found.holds
    assert found.elements == found.taken == sum(b.size for b in found.blocks.values())
    assert found.digits >= 20
    assert not found.opened
    program = api.prepare(
        SAMPLES / f"{name}.onnx",
        operator=operator,
        method="forward" if operator == "jvp" else "reverse",
        dtype="float64",
    )
    floats = program.run(
        dict(asked.point),
        asked.tangents if operator == "jvp" else None,
        asked.cotangents if operator == "vjp" else None,
    )
    for (of, wrt), block in found.blocks.items():
        other = floats["/".join(part for part in (of, wrt) if part)]
        np.testing.assert_allclose(other, block, rtol=1e-9, atol=1e-12 * np.abs(block).max())
        assert np.all(
            found.uncertainty[of, wrt] <= 1.2e-16 * np.abs(block) + 1e-20 * np.abs(block).max()
        )


def test_the_truth_lies_within():
    """Of a function whose derivative is rational, and known as a fraction: |W x|^2 / 3."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 3)), rng.standard_normal(3)

    def f(b: Builder, v: Var) -> Var:
        y = b.op("MatMul", b.constant(w), v)
        return b.op("ReduceSum", y * y, b.ints([0]), keepdims=0) / 3.0

    found = certified(problems.problem(f, x, "gradient"))
    rows = [[Fraction(float(a)) for a in row] for row in w]
    point = [Fraction(float(a)) for a in x]
    images = [sum((a * p for a, p in zip(row, point, strict=True)), Fraction()) for row in rows]
    for k in range(3):
        truth = sum((2 * y * row[k] for y, row in zip(images, rows, strict=True)), Fraction()) / 3
        gap = abs(Fraction(float(found.blocks["", "x"][k])) - truth)
        assert gap <= Fraction(float(found.uncertainty["", "x"][k]))
        assert gap > 0  # a third is no float


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "MaxPool", "Max", "Min"])
def test_the_extreme_one_of_numbers_that_no_float_is_equals_itself(op: str):
    def f(b: Builder, x: Var) -> Var:
        roots = b.op("Sqrt", x)
        if op in ("Max", "Min"):
            return b.op(op, roots, roots * roots)
        if op == "MaxPool":
            return b.op("MaxPool", b.reshape(roots, [1, 1, 4]), kernel_shape=(2,))
        return b.op(op, roots, b.ints([0]))

    found = certified(problems.problem(f, [0.3, 1.7, 0.9, 2.1], "jacobian"))
    assert found.holds
    assert found.elements == found.taken
    assert not found.opened
    assert found.bits == 128


MEANS = {
    "AveragePool": lambda b, x: b.op("AveragePool", b.reshape(x, [1, 1, 6]), kernel_shape=(3,)),
    "AveragePool, padded": lambda b, x: b.op(
        "AveragePool", b.reshape(x, [1, 1, 6]), kernel_shape=(3,), pads=(1, 1)
    ),
    "Mean": lambda b, x: b.op("Mean", x, x * x, b.op("Sin", x)),
    "ReduceMean": lambda b, x: b.op("ReduceMean", b.reshape(x, [2, 3]), b.ints([1])),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_third_is_no_float_and_no_rule_takes_it_for_one(name: str):
    found = certified(problems.problem(MEANS[name], np.linspace(0.1, 1.7, 6), "jacobian"))
    assert found.holds
    assert found.elements == found.taken


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
def test_weights_of_a_resize_are_rounded_in_one_way(mode: str, antialias: int):
    def f(b: Builder, x: Var) -> Var:
        scales = b.constant(np.array([0.6, 1.7], np.float32))
        return b.op("Resize", x, None, scales, mode=mode, antialias=antialias)

    found = certified(problems.problem(f, np.random.default_rng(0).standard_normal((5, 7))))
    assert found.holds
    assert found.elements == found.taken


def test_precision_rises_where_digits_cancel():
    """(1 + x)^2 - 1 - 2x of a tiny x, to whose fourth power nothing is left at 128 bits."""

    def f(b: Builder, x: Var) -> Var:
        y = x
        for _ in range(3):
            y = (y + 1.0) * (y + 1.0) - 1.0 - y * 2.0
        return y

    found = certified(problems.problem(f, [2.0**-40], "jacobian"))
    assert found.bits > 128
    assert found.elements == 1
    np.testing.assert_allclose(found.blocks["y", "x"], 8 * 2.0 ** (-40 * 7), rtol=1e-15)


@pytest.mark.parametrize("operator", ["jacobian", "jvp", "vjp"])
def test_a_fault_that_no_float_shows_is_contradicted(operator: str):
    asked = sample("physics", operator=operator)
    card = OPS["Tanh"]
    rule = card.vjp
    assert rule is not None

    def wrong(s, bars):
        return [None if x is None else x * (1.0 + 2.0**-52) for x in rule(s, bars)]

    faulty = replace(asked, table=OPS.replace(replace(card, vjp=wrong)))
    assert certified(asked).holds
    found = certified(faulty)
    assert found.contradicted
    assert not found.holds


def test_what_is_nothing_beside_another_block_is_confirmed_alone():
    """Of an inner product of both, a slope of 1e-200 is below every precision."""
    b = Builder(OPS)
    x, z = (b.input(name, DType.FLOAT64, (2,)) for name in ("x", "z"))
    y = b.rename(x * 18.0 + b.op("Exp", z - 460.0), "y")
    point = {"x": np.ones(2), "z": np.zeros(2)}
    asked = problems.problem(lambda _, x: x, np.ones(2), "vjp", cotangents={"y": np.ones(2)})
    asked = replace(asked, graph=b.graph([y]), wrt=("x", "z"), point=point)
    rule = OPS["Exp"].vjp
    assert rule is not None

    def wrong(s, bars):
        return [None if x is None else x * 1.01 for x in rule(s, bars)]

    right = certified(asked)
    assert right.holds
    assert right.confirmed == 2
    faulty = replace(asked, table=OPS.replace(replace(OPS["Exp"], vjp=wrong)))
    assert not certified(faulty).holds


def relu(b: Builder, x: Var) -> Var:
    w = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 3.0]])
    return b.op("MatMul", b.op("Relu", x), b.constant(w))


def test_on_a_kink_both_sides_are_certain():
    found = certified(problems.problem(relu, [[0.0, 2.0, -1.0]]))
    key = ("y", "x")
    assert found.sides is not None
    left, right = (side[key].reshape(2, 3) for side in (found.sides.left, found.sides.right))
    np.testing.assert_array_equal(right[0], [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(left[0], [0.0, 0.0, 0.0])
    # Where both sides are the same, the element is known; row 1 does not meet the kink at all.
    assert np.all(np.isnan([left[1], right[1]]))
    np.testing.assert_array_equal(
        found.known[key].reshape(2, 3), [[False, True, True], [True, True, True]]
    )
    assert not found.contradicted


def test_on_a_kink_of_an_image_both_sides_are_certain():
    found = certified(problems.problem(lambda b, x: b.op("Relu", x), np.eye(2)[None, None]))
    assert found.sides is not None
    diagonal = found.known["y", "x"].reshape(4, 4).diagonal()
    np.testing.assert_array_equal(diagonal, [True, False, False, True])
    assert found.sides.right["y", "x"].reshape(4, 4)[1, 1] == 1.0


def test_where_a_function_ends_on_one_side_nothing_is_certain():
    """The logarithm of what is positive, else 0, at 0."""

    def f(b: Builder, x: Var) -> Var:
        zero = b.constant(np.array(0.0))
        return b.op("Where", b.op("Greater", x, zero), b.op("Log", x), zero)

    found = certified(problems.problem(f, [0.0, 1.0]))
    known = found.known["y", "x"].reshape(2, 2)
    assert not known[0, 0]
    assert known[1, 1]


def test_on_a_kink_of_a_jvp_the_elements_beside_it_are_known():
    tangent = {"x": np.array([[1.0, 1.0, 1.0]])}
    found = certified(problems.problem(relu, [[0.0, 2.0, -1.0]], "jvp", tangents=tangent))
    np.testing.assert_array_equal(found.known["y", ""], [[False, True]])
    assert found.sides is not None
    np.testing.assert_array_equal(found.sides.left["y", ""], [[0.0, 1.0]])
    np.testing.assert_array_equal(found.sides.right["y", ""], [[1.0, 1.0]])
    assert found.confirmed == 1


def test_an_inactive_tie_is_smooth():
    """Relu at 0 exactly, of which nothing comes through the other Relu."""

    def f(b: Builder, x: Var) -> Var:
        return b.op("Relu", b.op("Relu", x) - 1.0) + x * x

    found = certified(problems.problem(f, [0.0, 3.0]))
    assert found.sides is None
    assert found.elements == 4
    np.testing.assert_array_equal(found.blocks["y", "x"], [[0.0, 0.0], [0.0, 7.0]])


def test_a_tie_that_cannot_be_excluded_ends_the_climb():
    """tanh x - tanh x by two roads: equal, but no precision shows it."""

    def f(b: Builder, x: Var) -> Var:
        e = b.op("Exp", x * 2.0)
        return b.op("Relu", b.op("Tanh", x) - (e - 1.0) / (e + 1.0) + 0.0) * 3.0 + x

    found = certified(problems.problem(f, [0.5]))
    assert 128 < found.bits < 1536
    assert found.elements == 0
    assert found.opened


@pytest.mark.parametrize("op", ["MaxPool", "ReduceMax", "ReduceMin"])
def test_a_tie_by_construction_is_one(op: str):
    """A constant stretch through a convolution and a tanh: equal numbers, none of them a float."""

    def f(b: Builder, x: Var) -> Var:
        weights = b.constant(np.array([[[0.7, -0.3, 0.1]], [[0.2, 0.9, -0.4]]]))
        y = b.op("Tanh", b.op("Conv", b.reshape(x, [1, 1, 9]), weights, pads=(0, 0)))
        if op == "MaxPool":
            return b.op("MaxPool", y, kernel_shape=(3,), strides=(2,))
        return b.op(op, -y if op == "ReduceMin" else y, b.ints([2]), keepdims=0)

    found = certified(problems.problem(f, [0.9, 0.1] + 6 * [0.3] + [2.0], "jacobian"))
    assert not found.opened
    assert not found.contradicted
    assert found.sides is not None
    assert found.elements < found.taken
    on_tie = ~found.known["y", "x"]
    left, right = (part["y", "x"] for part in (found.sides.left, found.sides.right))
    assert np.all(np.isnan(left) == np.isnan(right))
    assert np.all(left[on_tie] != right[on_tie])


def test_where_time_ends_nothing_is_said():
    asked = sample("attention")
    with pytest.raises(OutOfTimeError), until(time.perf_counter() + 1e-3):
        certified(asked)


def test_where_memory_does_not_do_nothing_is_said():
    asked = sample("attention")
    with pytest.raises(CannotError, match=r"would take some 0\.5 GiB"):
        certify(asked, draw(asked), memory=1 << 20)


def test_where_memory_is_short_fewer_rows_are_taken_at_once():
    def f(b: Builder, x: Var) -> Var:
        return b.op("Sin", x) * x

    asked = problems.problem(f, np.linspace(0.1, 1.0, 9))
    steps: list[str] = []
    certify(asked, draw(asked), steps.append, memory=WORK + (3 << 13))
    rows = [s for s in steps if s.endswith("back")]
    assert 1 < len(rows) < 9
    few: list[str] = []
    found = certify(asked, draw(asked), few.append)
    assert found.elements == found.taken == 81
    assert len([s for s in few if s.endswith("back")]) == 1


def test_prices_are_of_the_right_size():
    for name in ("digits", "attention"):
        asked = sample(name)
        start = time.perf_counter()
        certified(asked)
        took = time.perf_counter() - start
        assert price(asked) <= 20 * took
        assert took <= 100 * price(asked) + 1.0


# ---- in a comparison -----------------------------------------------------------------------------


def test_a_comparison_is_held_against_it():
    found = api.compare(
        SAMPLES / "digits.onnx",
        dict(np.load(SAMPLES / "digits.npz")),
        methods=["reverse", "symbolic"],
        dtype="float64",
    )
    reference = found.reference
    assert (reference.kind, reference.witness) == ("certified", "series")
    assert reference.confirmed == reference.elements == 640
    assert reference.digits >= 20
    assert not reference.reason
    assert not reference.uncertified
    for judgement in found.methods:
        assert judgement.verdict is Verdict.AGREE
        assert judgement.correct_digits is not None
        assert judgement.correct_digits > 14


@pytest.mark.parametrize("operator", ["jacobian", "vjp", "jvp"])
def test_outputs_that_floats_have_lost_are_not_certified(operator: str):
    """A row that is masked as a whole: exactly, a Softmax sees what was there before the mask."""
    mask = np.zeros((3, 4), np.float32)
    mask[1], mask[2, 2:] = -3.4e38, -3.4e38
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, mask.shape)
    y = b.rename(b.op("Softmax", x + b.constant(mask)), "y")
    point = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    found = api.compare(write(b.graph([y])), {"x": point}, operator=operator, runs=1)
    assert [m for m in found.methods if m.verdict is Verdict.DISAGREE] == []
    assert found.primal.matches
    if operator == "vjp":
        assert "exact arithmetic" in found.reference.uncertified
    else:
        assert found.reference.kind == "certified"
        assert 0 < found.reference.confirmed < found.reference.elements


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "jvp", "vjp"])
def test_an_output_that_floats_have_lost_may_be_a_single_number(operator: str):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, ())
    y = b.rename((x + 1e30) - b.constant(1e30, DType.FLOAT32), "y")
    point = {"x": np.asarray(0.5, np.float32)}
    found = api.compare(write(b.graph([y])), point, operator=operator, runs=1)
    assert found.reference.kind != "certified"


def test_without_it_the_reference_is_the_float64_graph():
    point = dict(np.load(SAMPLES / "physics.npz"))
    found = api.compare(SAMPLES / "physics.onnx", point, methods=["reverse"], reference="float64")
    assert found.reference.kind == "float64-reverse"
    assert not found.reference.uncertified


def test_without_flint_a_line_says_what_it_would_add(monkeypatch: pytest.MonkeyPatch):
    def missing():
        raise MissingExtraError("no python-flint", 'pip install "gradcli[certified]"')

    monkeypatch.setattr("gradcli.numbers.ball._import_flint", missing)
    point = dict(np.load(SAMPLES / "physics.npz"))
    found = api.compare(SAMPLES / "physics.onnx", point, methods=["reverse"])
    assert found.exit_code == 0
    assert found.reference.uncertified == 'no python-flint: pip install "gradcli[certified]"'
    with pytest.raises(MissingExtraError):
        api.compare(SAMPLES / "physics.onnx", point, methods=["reverse"], reference="certified")


def test_what_would_take_too_long_is_not_tried(monkeypatch: pytest.MonkeyPatch):
    def tried(*_: object) -> None:
        raise AssertionError("it was tried")

    monkeypatch.setattr("gradcli.measure.certify.price", lambda _: 1e6)
    monkeypatch.setattr("gradcli.engines.certified.certify", tried)
    point = dict(np.load(SAMPLES / "physics.npz"))
    found = api.compare(SAMPLES / "physics.onnx", point, methods=["reverse"])
    assert found.reference.kind == "float64-reverse"
    assert "it would take some 1000000 s" in found.reference.uncertified
    assert "budget" in found.reference.uncertified


def test_what_takes_long_has_a_price_beyond_its_share_of_a_short_budget():
    small, large = (
        price(api.ask(SAMPLES / f"{name}.onnx", dict(np.load(SAMPLES / f"{name}.npz"))))
        for name in ("physics", "attention")
    )
    assert small < SHARE["auto"] * 0.3 < large


def test_where_float64_is_too_coarse_as_well_no_rule_is_blamed():
    """1 + x log(1 + x^4): of so small an x^4 neither width keeps enough beside 1."""

    def f(b: Builder, x: Var) -> Var:
        square = x * x
        return b.op("Log", square * square + 1.0) * x + 1.0

    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 1))
    path = write(b.graph([b.rename(f(b, x), "y")]))
    found = api.compare(
        path,
        np.array([[6.3e-4]], np.float32),
        operator="jvp",
        tangent=np.ones((1, 1)),
        methods=["forward", "reverse", "symbolic"],
        reference="certified",
    )
    assert found.reference.kind == "certified"
    verdicts = {m.method: (m.verdict, m.cause) for m in found.methods}
    for method in ("forward", "reverse"):
        assert verdicts[method] == (Verdict.DISAGREE, Cause.ROUNDING)


def test_beside_what_stays_open_the_rest_is_confirmed():
    """The first element meets a tie that no precision excludes; the second one goes by."""

    def f(b: Builder, x: Var) -> Var:
        e = b.op("Exp", x * 2.0)
        tie = b.op("Relu", b.op("Tanh", x) - (e - 1.0) / (e + 1.0))
        first = b.constant(np.array([1.0, 0.0]))
        y = tie * first + b.op("Sin", x) * (1.0 - first) + x * x * x
        return b.op("ReduceSum", y, b.ints([0]), keepdims=0)

    found = certified(problems.problem(f, [0.5, 0.7], "gradient"))
    assert found.holds
    np.testing.assert_array_equal(found.known["", "x"], [False, True])
    np.testing.assert_allclose(found.blocks["", "x"][1], np.cos(0.7) + 3 * 0.49, rtol=1e-15)
