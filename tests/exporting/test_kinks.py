"""Exactly on a kink a file gives what the operator's convention says, in onnxruntime too."""

import numpy as np
import pytest

from gradcli import runtime
from gradcli.exporting import derivative_graph
from gradcli.graph import DType
from gradcli.ops import OPS
from gradcli.transform import cast, tune
from tests.ops.checks import applied
from tests.ops.rows import ROWS


def is_asked(row, kink):
    """Whether it has a derivative, a kernel, and the same kink in float32."""
    a = applied(row, kink.case)
    here = all(np.array_equal(x.astype(np.float32), x) for x in a.feeds.values())
    return not row.runtime and here and a.graph.outputs[0].name in a.smooth


ASKED = [(row, k) for row in ROWS for k, kink in enumerate(row.kinks) if is_asked(row, kink)]


@pytest.mark.parametrize("tuned", [False, True], ids=["canonical", "tuned"])
@pytest.mark.parametrize(("row", "k"), ASKED, ids=[f"{row.op}-{k}" for row, k in ASKED])
def test_on_a_kink_the_file_gives_the_convention(row, k, tuned):
    kink = row.kinks[k]
    a = applied(row, kink.case)
    y, wrt = a.graph.outputs[0].name, f"x{kink.wrt}"
    graph = cast(a.graph, DType.FLOAT32)
    point = {name: x.astype(np.float32) for name, x in a.feeds.items()}

    def run(operator, **directions):
        made = derivative_graph(graph, operator, [wrt], [y], OPS)
        written = tune(made.graph, OPS) if tuned else made.graph
        (role,) = [t.name for t in made.inputs if t.role in ("tangent", "cotangent")]
        feeds = {**point, role: directions[role]}
        return runtime.prepare(written).run(feeds)[made.outputs[-1].name]

    ones = np.ones(np.shape(a.primal()[y]), np.float32)
    pulled = run("vjp", **{f"{y}_bar": ones})
    np.testing.assert_allclose(pulled, kink.gradient, rtol=1e-6, atol=1e-7, err_msg="vjp")
    for place in np.ndindex(pulled.shape):
        unit = np.zeros(pulled.shape, np.float32)
        unit[place] = 1.0
        pushed = np.sum(run("jvp", **{f"{wrt}_dot": unit}))
        np.testing.assert_allclose(pushed, kink.gradient[place], rtol=1e-6, atol=1e-7)


def test_the_kinks_that_networks_have_are_among_them():
    ops = {row.op for row, _ in ASKED}
    assert ops >= {"Abs", "Clip", "LeakyRelu", "Max", "MaxPool", "Min", "ReduceMax", "Relu"}
    assert len(ASKED) > 50
