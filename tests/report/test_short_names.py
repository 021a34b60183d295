"""Long names of nodes: their ends, where those tell them apart."""

from __future__ import annotations

import pytest

from gradcli.comparison import Blame, Explanation, What
from gradcli.report.nodes import short

PREFIX = "model_1/cq_t2010v2_1/"


def explanation(*names: str) -> Explanation:
    blames = (
        Blame(n, "Conv", "", What.ROUNDING, "", 0.0, 0.0, {}, {}, {}, "float64") for n in names
    )
    return Explanation("y", "reverse", {}, {}, tuple(blames), 0, (), len(names))


@pytest.mark.parametrize(
    ("name", "others", "said"),
    [
        ("conv", (), "conv"),
        (f"{PREFIX}conv1d_8;{PREFIX}conv1d_8", (f"{PREFIX}conv1d_9",), "…/cq_t2010v2_1/conv1d_8"),
        ("encoder/layer_1/attention/MatMul", ("encoder/layer_2/attention/MatMul",), "…/layer_1"),
        ("a_name_without_any_path_at_all", (), "a_name_without_any_path_at_all"),
    ],
)
def test_a_long_name_is_told_by_its_end(name: str, others: tuple[str, ...], said: str):
    told = short(explanation(name, *others), name)
    assert told.startswith(said)
    assert len(told) <= len(name)
    assert name.endswith(told.removeprefix("…/"))
