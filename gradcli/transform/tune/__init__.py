"""Rewrite a canonical graph into the formulations that onnxruntime runs fastest.

One row a rewrite: what it matches, what it makes of it, its conditions, and the figure that earns
it its place (onnxruntime 1.32, one thread, x86-64 with AVX2). A row applies only where the result
is the same function; where it differs at all (the sign of a zero, a product of 0 and infinity) the
row says so, and the tests hold it to that. The result is only for running: differentiating it is an
error.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.graph import Graph, burst
from gradcli.ops import OPS, Table
from gradcli.transform.simplify import simplify
from gradcli.transform.tune import convs, faults, masks, pools, scatters
from gradcli.transform.tune.tuner import Row, Tuner

__all__ = ["ROWS", "Row", "tune"]

ROWS: dict[str, Sequence[Row]] = {
    "Where": (
        pools.POOLED_RELU_MASK,
        masks.RELU_MASK,
        masks.CLIP_MASK,
        masks.HARD_SWISH_SLOPE,
        masks.MASK,
        masks.GELU_TAIL,
    ),
    "Mul": (masks.TANH_SLOPE,),
    "Reshape": (pools.MAX_UNPOOL,),
    "Pad": (faults.PAD_AXES,),
    "ScatterElements": (
        scatters.OF_HALVES,
        scatters.ROWS_ADDED,
    ),
    "ScatterND": (scatters.OF_HALVES,),
    "AveragePool": (faults.IDLE_CEIL_MODE,),
    "ConvTranspose": (
        convs.STRIDE_1,
        convs.UNPOOL,
    ),
}
"""Rewrites by the operator that they replace, tried in order."""


@burst()
def tune(graph: Graph, table: Table = OPS, *, one_thread: bool = False) -> Graph:
    """The same function in faster operators, for onnxruntime only; never differentiated again.

    Args:
        graph: A simplified graph.
        table: Cards.
        one_thread: Whether it will run on the CPU on one thread, and on no more.
    """
    t = Tuner(graph, table, one_thread)
    for node in graph.nodes:
        for row in ROWS.get(node.key, ()):
            made = row.rewrite(t, node)
            if made is not None:
                t.become(node, [made])
                break
        else:
            t.copy(node)
    return simplify(t.finish(), table)
