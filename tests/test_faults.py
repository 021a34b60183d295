"""Faults planted in the operator table, one at a time: comparing must name whoever uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcli.comparison import Comparison, judge
from gradcli.comparison.facts import Cause, Verdict
from gradcli.graph import Builder, DType, Var
from gradcli.measure import measure
from gradcli.onnxfile import Model, read, write
from gradcli.ops import OPS, Card, Site, Table
from gradcli.problem import check_feeds, pose

SAMPLES = Path(__file__).resolve().parent.parent / "sample_models"

RULES = ("forward", "reverse")
SOUND = ("certified", "float64-reverse")
RULE_FREE = ("symbolic", "finite", "complex-step")

Vars = Sequence[Var | None]


# ---- faults -------------------------------------------------------------------------------------


def slipped(card: Card, operand: int, factor: float, *rules: str) -> Table:
    """A table in which one partial of a card is multiplied by a factor, in these rules."""

    def jvp(s: Site, dots: Vars) -> Vars:
        assert card.jvp is not None
        whole = card.jvp(s, dots)
        if operand >= len(dots) or dots[operand] is None:
            return whole
        part = card.jvp(s, [dot if k == operand else None for k, dot in enumerate(dots)])
        return [
            y if more is None or y is None else y + more * (factor - 1.0)
            for y, more in zip(whole, part, strict=True)
        ]

    def vjp(s: Site, bars: Vars) -> Vars:
        assert card.vjp is not None
        made = list(card.vjp(s, bars))
        if (bar := made[operand]) is not None:
            made[operand] = bar * factor
        return made

    return OPS.replace(
        replace(
            card,
            jvp=jvp if "jvp" in rules else card.jvp,
            vjp=vjp if "vjp" in rules else card.vjp,
        )
    )


def computed_wrongly(card: Card, factor: float) -> Table:
    """A table in which the operator itself, and not its derivative, is off by a factor."""

    def impl(n: Any, *operands: Any, **attrs: Any) -> Any:
        made = card.impl(n, *operands, **attrs)  # type: ignore[misc] # these cards have one
        return tuple(y * factor for y in made) if isinstance(made, tuple) else made * factor

    return OPS.replace(replace(card, impl=impl))


# ---- models -------------------------------------------------------------------------------------


@cache
def sample(name: str) -> tuple[Model, dict[str, np.ndarray]]:
    model = read(SAMPLES / f"{name}.onnx", OPS)
    with np.load(SAMPLES / f"{name}.npz") as stored:
        feeds, _ = check_feeds(model, dict(stored))
    return model, feeds


def built(body: Callable[[Builder, Var], Var], x: Any) -> tuple[Model, dict[str, np.ndarray]]:
    """A model of one input x and one output y, in float32, at x."""
    x = np.asarray(x, np.float32)
    b = Builder(OPS)
    y = b.rename(body(b, b.input("x", DType.FLOAT32, x.shape)), "y")
    return read(write(b.graph([y])), OPS), {"x": x}


def compared(
    on: tuple[Model, dict[str, np.ndarray]],
    table: Table,
    methods: Sequence[str] = (*RULES, *RULE_FREE),
    **how: Any,
) -> Comparison:
    model, feeds = on
    problem = pose(model, feeds, table=table, **how)
    return judge(measure(problem, methods, runs=1, warmup=0))


def disagreeing(found: Comparison) -> dict[str, Cause | None]:
    return {m.method: m.cause for m in found.methods if m.verdict is Verdict.DISAGREE}


# ---- a partial that is 1 % off ------------------------------------------------------------------

ALONG = {"operator": "jvp"}
QUICK = ("symbolic", "complex-step")
"""Rule-free methods without the ladder, which is slow on the larger samples."""

SHARED = [
    ("Concat", 1, "physics", RULE_FREE, {}),
    ("Gemm", 0, "physics", RULE_FREE, {}),
    ("Tanh", 0, "physics", RULE_FREE, {}),
    ("Sub", 0, "diabetes", RULE_FREE, {}),
    ("Sub", 1, "diabetes", QUICK, {"wrt": ["feature_mean"]}),
    ("Div", 0, "diabetes", RULE_FREE, {}),
    ("Softplus", 0, "diabetes", QUICK, {}),
    ("Mul", 0, "diabetes", QUICK, {}),
    ("Conv", 0, "digits", RULE_FREE, ALONG),
    ("Conv", 1, "digits", ("complex-step",), {"wrt": ["conv1.weight"], **ALONG}),
    ("Relu", 0, "digits", QUICK, ALONG),
    ("MaxPool", 0, "digits", QUICK, ALONG),
    ("Flatten", 0, "digits", QUICK, ALONG),
    ("MatMul", 0, "attention", QUICK, ALONG),
    ("Softmax", 0, "attention", QUICK, ALONG),
    ("LayerNormalization", 0, "attention", QUICK, ALONG),
    ("Erf", 0, "attention", QUICK, ALONG),
    ("ReduceMean", 0, "attention", QUICK, ALONG),
    ("Transpose", 0, "attention", QUICK, ALONG),
]


@pytest.mark.parametrize(("op", "operand", "name", "others", "how"), SHARED)
def test_who_uses_a_wrong_partial_is_named_and_nobody_else(op, operand, name, others, how):
    found = compared(
        sample(name), slipped(OPS[op], operand, 1.01, "jvp", "vjp"), (*RULES, *others), **how
    )
    assert found.exit_code == 1
    assert found.reference.kind == found.reference.witness != "float64-reverse"
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)


@pytest.mark.parametrize("op", ["Gelu", "LogSoftmax", "Log", "Pow", "Sqrt", "Where", "Max"])
def test_operators_that_no_sample_has(op):
    def body(b: Builder, x: Var) -> Var:
        shifted = b.op("Exp", x) + 1.0
        made = {
            "Gelu": lambda: b.op("Gelu", x),
            "LogSoftmax": lambda: b.op("LogSoftmax", x),
            "Log": lambda: b.op("Log", shifted),
            "Pow": lambda: b.op("Pow", shifted, b.like(1.7, x)),
            "Sqrt": lambda: b.op("Sqrt", shifted),
            "Where": lambda: b.op("Where", x > 0.0, x * x, shifted),
            "Max": lambda: b.op("Max", x * x * 4.0, shifted),
        }[op]()
        return b.op("Tanh", made)

    operand = 1 if op == "Where" else 0
    found = compared(
        built(body, [[0.3, -1.1, 0.7, 1.9]]), slipped(OPS[op], operand, 1.01, "jvp", "vjp")
    )
    assert found.exit_code == 1
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)


# ---- a fault in one rule only -------------------------------------------------------------------

ONE_RULE = [("Tanh", "physics", {}), ("Gemm", "diabetes", {}), ("Conv", "digits", ALONG)]


@pytest.mark.parametrize(("op", "name", "how"), ONE_RULE)
def test_a_wrong_jvp_is_forwards_alone(op, name, how):
    found = compared(sample(name), slipped(OPS[op], 0, 1.01, "jvp"), **how)
    assert disagreeing(found) == {"forward": Cause.RULE}
    assert found.reference.kind in SOUND
    assert found.exit_code == 1


@pytest.mark.parametrize(("op", "name", "how"), ONE_RULE)
def test_a_wrong_vjp_is_reverses_alone_and_costs_it_the_reference(op, name, how):
    found = compared(sample(name), slipped(OPS[op], 0, 1.01, "vjp"), **how)
    assert disagreeing(found) == {"reverse": Cause.RULE}
    assert found.reference.kind == found.reference.witness
    assert "differ in" in found.reference.reason
    assert found.exit_code == 1


@pytest.mark.parametrize("operator", ["jvp", "vjp", "jacobian"])
def test_faults_are_found_by_every_operator(operator):
    found = compared(
        sample("kinked"),
        slipped(OPS["Gemm"], 0, 1.01, "jvp", "vjp"),
        wrt=["hidden"],
        operator=operator,
    )
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)


def test_on_a_kink_a_value_outside_both_sides_is_still_a_fault():
    found = compared(sample("kinked"), slipped(OPS["Gemm"], 0, 2.0, "jvp", "vjp"))
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)
    assert {m.verdict for m in found.methods if m.method in RULE_FREE} == {Verdict.KINK}


# ---- smaller and coarser faults -----------------------------------------------------------------


def test_a_tenth_of_a_per_cent_shows_in_float64():
    table = slipped(OPS["Tanh"], 0, 1.001, "jvp", "vjp")
    found = compared(sample("physics"), table, dtype=DType.FLOAT64)
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)


def test_a_flipped_sign():
    table = slipped(OPS["Sub"], 1, -1.0, "jvp", "vjp")
    found = compared(sample("diabetes"), table, wrt=["feature_mean"])
    assert disagreeing(found) == dict.fromkeys(RULES, Cause.RULE)
    worst = next(m.worst for m in found.methods if m.method == "reverse")
    assert worst is not None
    assert worst.value == pytest.approx(-worst.reference, rel=1e-3)


def test_a_dropped_sum_over_a_broadcast_axis():
    def only_the_first_row(s: Site, bars: Vars) -> Vars:
        (y_bar,) = bars
        assert y_bar is not None
        assert OPS["Mul"].vjp is not None
        right = OPS["Mul"].vjp(s, bars)
        if right[0] is None or s.x.shape == s.y.shape:
            return right
        first = s.b.op("Slice", y_bar * s.x1, s.b.ints([0]), s.b.ints([1]), s.b.ints([0]))
        return [first, right[1]]

    weights = np.arange(1.0, 13.0).reshape(4, 3) / 12
    on = built(
        lambda b, x: b.op("Tanh", x) * b.constant(weights, DType.FLOAT32), [[0.2, -0.4, 0.9]]
    )
    table = OPS.replace(replace(OPS["Mul"], vjp=only_the_first_row))
    assert disagreeing(compared(on, table)) == {"reverse": Cause.RULE}


def test_a_fault_too_small_for_the_band_is_no_disagreement():
    table = slipped(OPS["Tanh"], 0, 1 + 1e-9, "jvp", "vjp")
    assert compared(sample("physics"), table, dtype=DType.FLOAT64).exit_code == 0


# ---- a wrong primal -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "name", "factor"),
    [("Tanh", "physics", 1.01), ("Tanh", "physics", 1.001), ("Div", "diabetes", 1.01)],
)
def test_of_a_wrong_primal_no_derivative_is_judged(op, name, factor):
    found = compared(sample(name), computed_wrongly(OPS[op], factor))
    assert not found.primal.matches
    assert found.exit_code == 3
    assert {m.verdict for m in found.methods} == {Verdict.INCONCLUSIVE}
    assert found.advice == ()


# ---- no fault -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["physics", "diabetes"])
def test_without_a_fault_nobody_is_named(name):
    found = compared(sample(name), OPS)
    assert disagreeing(found) == {}
    assert found.exit_code == 0
    assert found.reference.kind in SOUND
