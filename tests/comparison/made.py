"""Evidence made by hand: numbers in, no engine and no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.comparison import Comparison, judge
from gradcli.comparison.facts import Cause, Judgement, Verdict
from gradcli.engines.base import (
    Estimate,
    Evidence,
    Outcome,
    Survey,
    Times,
)
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.problem import Key, Problem

AGREE, DISAGREE, KINK, STAIRCASE, INCONCLUSIVE = Verdict
X: Key = ("", "x")


def problem(count: int = 3, operator: str = "vjp", dtype: DType = DType.FLOAT64) -> Problem:
    """y = 2x at ones; what the methods say of it is up to each test."""
    b = Builder(OPS)
    y = b.rename(b.input("x", DType.FLOAT64, (count,)) * 2.0, "y")
    ones = np.ones(count)
    return Problem(
        None,
        b.graph([y]),
        ("x",),
        ("y",),
        operator,
        {"x": ones},
        {"x": ones} if operator == "jvp" else {},
        {"y": ones} if operator in ("vjp", "gradient") else {},
        dtype,
    )


def said(values: Any, u: Any = 0.0, key: Key = X, known: Any = None) -> Estimate:
    block = np.asarray(values, np.float64)
    return Estimate(
        {key: block},
        None if known is None else {key: np.asarray(known, bool)},
        uncertainty={key: np.broadcast_to(np.asarray(u, np.float64), block.shape)},
    )


def outcome(name: str, estimate: Estimate | None, **facts: Any) -> Outcome:
    if estimate is None:
        return Outcome(name, "skipped", facts.pop("reason", "out of its depth"))
    made = Outcome(name, "computed", "", estimate, run=Times((1.0,)))
    return replace(made, sampled=estimate.known is not None, **facts)


def evidence(truth: Any = (1.0, 2.0, 4.0), *outcomes: Outcome, **changes: Any) -> Evidence:
    """Reference and witness say `truth`, the witness within 1e-12; changes replace fields."""
    asked = changes.pop("problem", problem(len(truth)))
    key = asked.keys[0]
    outputs = {"y": np.ones(len(truth))}
    base = Evidence(
        asked,
        outcomes,
        outputs,
        outputs,
        Times((0.5,)),
        "",
        outcome("reverse", said(truth, 1e-16, key)),
        outcome("complex-step", said(truth, 1e-12, key)),
        None,
        {},
        Survey(),
        None,
        None,
    )
    return replace(base, **changes)


def verdict(method: Judgement) -> tuple[Verdict | None, Cause | None]:
    return method.verdict, method.cause


def only(found: Comparison) -> Judgement:
    (method,) = found.methods
    return method


def judged(values: Any, u: Any = 0.0, truth: Any = (1.0, 2.0, 4.0), **changes: Any) -> Judgement:
    key = changes["problem"].keys[0] if "problem" in changes else X
    return only(judge(evidence(truth, outcome("symbolic", said(values, u, key)), **changes)))
