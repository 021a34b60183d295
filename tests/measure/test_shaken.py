"""Whose rounding errors a method's are held against: those of its own graph, where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.comparison import Verdict, judge
from gradcli.comparison.facts import Cause
from gradcli.graph import Builder, DType, Var
from gradcli.measure import measure
from gradcli.onnxfile import read, write
from gradcli.ops import OPS, Site, Table
from gradcli.problem import Problem, pose
from tests.measure.made import problem, replace_vjp


def cancelling(table: Table) -> Problem:
    """y = exp(x) - x, whose slope nearly cancels at so small an x."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 2))
    model = read(write(b.graph([b.rename(b.op("Exp", x) - x, "y")])), OPS)
    at = np.array([[1e-6, 1.3e-6]], np.float32)
    return pose(model, {"x": at}, operator="vjp", table=table)


def nothing(*_: Any) -> list[None]:
    return [None]


def test_a_wrong_reverse_rule_does_not_make_rounding_a_fault_of_another_method():
    """Without its term of Exp the reverse graph has nothing that cancels, and the other has."""
    table = OPS.replace(replace_vjp("Exp", nothing))
    found = measure(cancelling(table), ["forward", "reverse"], runs=1)
    said = {m.method: (m.verdict, m.cause) for m in judge(found).methods}
    assert list(found.roundings) == ["forward"]
    assert said["forward"] == (Verdict.DISAGREE, Cause.ROUNDING)
    assert said["reverse"] == (Verdict.DISAGREE, Cause.RULE)


def test_a_wrong_rule_of_a_method_is_not_excused_by_its_own_rounding():
    def doubled(s: Site, dots: Sequence[Var | None]) -> list[Var | None]:
        return [None if dot is None else 2.0 * dot for dot in dots]

    table = OPS.replace(replace(OPS["Tanh"], jvp=doubled))
    found = measure(problem(table=table), ["forward", "reverse"], runs=1)
    said = {m.method: (m.verdict, m.cause) for m in judge(found).methods}
    assert list(found.roundings) == ["forward"]
    assert said["forward"] == (Verdict.DISAGREE, Cause.RULE)
    assert said["reverse"] == (Verdict.AGREE, None)


def test_where_all_is_well_no_other_graph_is_shaken():
    assert not measure(problem(), ["forward", "reverse"], runs=1).roundings
