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
from gradcli.transform.tune import convs, faults, masks, pools, products, scatters
from gradcli.transform.tune.tuner import Row, Tuner

__all__ = ["ROWS", "Row", "tune"]

ROWS: dict[str, Sequence[Row]] = {
    "Where": (
        pools.OVERLAPPING,
        pools.POOLED_RELU_MASK,
        masks.RELU_MASK,
        masks.CLIP_MASK,
        masks.HARD_SWISH_SLOPE,
        masks.MASK,
        masks.GELU_TAIL,
    ),
    "Mul": (masks.TANH_SLOPE,),
    "Add": (products.COMMON_FACTOR,),
    "Reshape": (pools.MAX_UNPOOL,),
    "Pad": (faults.PAD_AXES,),
    "ScatterElements": (
        scatters.OF_HALVES,
        scatters.ROWS_ADDED,
    ),
    "ScatterND": (scatters.OF_HALVES,),
    "AveragePool": (faults.IDLE_CEIL_MODE,),
    "ConvTranspose": (
        convs.OF_PHASES,
        convs.STRIDE_1,
        convs.UNPOOL,
        convs.BLOCKED,
    ),
}
"""Rewrites by the operator that they replace, tried in order."""


@burst()
def tune(graph: Graph, table: Table = OPS, *, cpu_threads: int | None = None) -> Graph:
    """The same function in faster operators, for onnxruntime only; never differentiated again.

    Args:
        graph: A simplified graph.
        table: Cards.
        cpu_threads: How many threads of the CPU it will run on; None if it may run elsewhere too.
    """
    t = Tuner(graph, table, cpu_threads)
    for node in graph.nodes:
        for row in ROWS.get(node.key, ()):
            made = row.rewrite(t, node)
            if made is not None:
                t.become(node, [made])
                break
        else:
            t.copy(node)
    return pools.without_idle_places(simplify(t.finish(), table))
