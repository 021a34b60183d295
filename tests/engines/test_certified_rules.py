"""Every rule of every operator, to twenty digits: what it says must be within what no rule says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcli.measure.sample import draw
from tests.engines.test_table import asked
from tests.ops.rows import ROWS
from tests.ops.table import Row

pytest.importorskip("flint", reason="needs python-flint, which an extra brings")

from gradcli.engines.certified import certify

OPEN = frozenset({"com.microsoft::DynamicQuantizeLSTM"})
"""What rounds numbers that balls cannot tell from ties: nothing of it may be confirmed."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
@pytest.mark.parametrize("operator", ["jvp", "vjp"])
def test_no_rule_is_excluded_by_power_series_of_the_primal(row: Row, operator: str):
    """A float in the place of an irrational number, or of a third, is."""
    problem = asked(row, 0)
    if operator == "vjp":
        rng = np.random.default_rng(0)
        bars = {of: rng.standard_normal(problem.shape(of)) for of in problem.of}
        problem = replace(problem, operator="vjp", tangents={}, cotangents=bars)
    found = certify(problem, draw(problem))
    assert not found.contradicted
    if found.taken and not found.sides and row.op not in OPEN:
        assert found.confirmed
        assert found.elements
