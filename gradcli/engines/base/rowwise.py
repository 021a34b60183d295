"""Many points at once: a proof that a network treats the rows of its input each on its own.

Finite differences and the complex step move the primal itself, so they cannot ride along a new
axis as tangents do. But where every operator is applied to each row (index of axis 0) alone, a
batch of one may stand for a batch of many. What is not proven here is looped over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gradcli.graph import DType, Graph, Node, Value
from gradcli.graph.dtypes import size
from gradcli.ops import Table
from gradcli.ops.kinds import axis_of

Constants = dict[Value, np.ndarray]


def rowwise(graph: Graph, wrt: Sequence[str], table: Table) -> Graph | None:
    """The graph, fit for any number of rows in `wrt`; None where rows are not proven to be apart.

    Values keep the shapes that they had: only the interpreter, which asks the arrays, can run it.

    Args:
        graph: Shapes fixed; every input in `wrt` with the same number of rows.
        wrt: Names of the inputs that will carry more rows; the others stay as they are.
        table: Cards.
    """
    given = [v for v in graph.inputs if v.name in set(wrt)]
    counts = {v.shape[0] if v.shape else 0 for v in given}
    if len(counts) != 1 or not all(counts):
        return None
    (count,) = counts
    rows, constants, nodes = set(given), dict(graph.constants), []
    for node in graph.nodes:
        if any(v in rows for v in node.reads()):
            if not _apart(node, rows, constants, table):
                return None
            rows.update(node.makes())
            # From here on only the opened form counts, so it takes the name.
            node = _open(node, constants) if node.op == "Reshape" else node  # noqa: PLW2901 # the same node, its shape known
        nodes.append(node)
    if not all(v in rows and v.shape and v.shape[0] == count for v in graph.outputs):
        return None
    return Graph(graph.inputs, graph.outputs, tuple(nodes), constants, graph.captures, graph.name)


def _apart(node: Node, rows: set[Value], constants: Constants, table: Table) -> bool:
    """Whether each row of every result is made from that row of the operands with rows."""
    if any(v.shape is None for v in (*node.reads(), *node.makes())):
        return False
    rule = _RULES.get(node.key)
    if rule is None:
        return table[node.key].kind == "elementwise" and _aligned(node, rows)
    return rule(node, rows, constants)


Rule = Callable[[Node, set[Value], Constants], bool]


def _rank(value: Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape)


def _aligned(node: Node, rows: set[Value], skip: int = 0) -> bool:
    """Broadcast operands: rows stand at axis 0 of the result, and the others repeat along it."""
    rank = max(_rank(v) for v in node.makes())
    for value in node.inputs[skip:]:
        if value is None or value.shape is None:
            continue
        if value in rows:
            if len(value.shape) != rank:
                return False
        elif len(value.shape) == rank and value.shape[0] != 1:
            return False
    return True


def _only_first(node: Node, rows: set[Value], constants: Constants) -> bool:
    """Samples along axis 0 of the first operand, and nowhere else."""
    del constants
    return node.inputs[0] in rows and not any(v in rows for v in node.inputs[1:])


def _axis(name: str) -> Rule:
    """One axis, given by this attribute, along which the operator works: not that of the rows."""

    def rule(node: Node, rows: set[Value], constants: Constants) -> bool:
        rank = _rank(node.inputs[0])
        return _only_first(node, rows, constants) and axis_of(node.attrs[name], rank) > 0

    return rule


def _axes(place: int) -> Rule:
    """Axes, given by a constant operand, along which the operator works: not that of the rows."""

    def rule(node: Node, rows: set[Value], constants: Constants) -> bool:
        if not _only_first(node, rows, constants) or place >= len(node.inputs):
            return False
        axes = constants.get(node.inputs[place])  # type: ignore[arg-type] # None is no key
        rank = max(_rank(node.inputs[0]), _rank(node.outputs[0]))
        return (
            axes is not None and axes.size > 0 and all(axis_of(int(a), rank) > 0 for a in axes.flat)
        )

    return rule


def _matmul(node: Node, rows: set[Value], constants: Constants) -> bool:
    del constants
    a, b = node.inputs
    if a in rows and b in rows:
        return _rank(a) == _rank(b) >= 3
    stacked = max(_rank(a), _rank(b))
    if a in rows:
        fixed = _rank(b) < stacked or _rank(b) == 2 or b.shape[0] == 1  # type: ignore[union-attr,index] # ranks are known
        return _rank(a) == stacked >= 2 and fixed
    return _rank(b) == stacked >= 3 and (_rank(a) < stacked or a.shape[0] == 1)  # type: ignore[union-attr,index] # likewise


def _gemm(node: Node, rows: set[Value], constants: Constants) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    repeats = _rank(bias) < 2 or bias.shape[0] == 1  # type: ignore[union-attr,index] # rank 2
    return _only_first(node, rows, constants) and not node.attrs["transA"] and repeats


def _concat(node: Node, rows: set[Value], constants: Constants) -> bool:
    del constants
    return (
        all(v in rows for v in node.inputs)
        and axis_of(node.attrs["axis"], _rank(node.outputs[0])) > 0
    )


def _reshape(node: Node, rows: set[Value], constants: Constants) -> bool:
    """Row-major order keeps a row's elements together as long as there are as many rows."""
    x, y = node.inputs[0], node.outputs[0]
    return _only_first(node, rows, constants) and bool(
        x and y and x.shape and y.shape and x.shape[0] == y.shape[0] and size(y.shape)
    )


def _open(node: Node, constants: Constants) -> Node:
    """A Reshape to whatever number of rows comes."""
    (y,) = node.makes()
    assert y.shape is not None
    target = np.array([-1, *y.shape[1:]], np.int64)
    shape = Value(f"{y.name}_rows", DType.INT64, target.shape)
    constants[shape] = target
    return replace(node, inputs=(node.inputs[0], shape), attrs={**node.attrs, "allowzero": 0})


def _broadcast(node: Node, rows: set[Value], constants: Constants) -> bool:
    del constants
    return _aligned(node, rows)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"), _broadcast),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "Where", "IsNaN", "IsInf"), _broadcast),
    **dict.fromkeys(("Floor", "Ceil", "Round", "Sign", "Cast"), _broadcast),
    **dict.fromkeys(("Conv", "ConvTranspose", "Dropout"), _only_first),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _only_first),
    # In training its mean and variance are those of all samples.
    "BatchNormalization": lambda node, rows, constants: (
        _only_first(node, rows, constants) and not node.attrs["training_mode"]
    ),
    # The places that MaxPool can give count through all samples.
    "MaxPool": lambda node, rows, constants: (
        _only_first(node, rows, constants) and len(list(node.makes())) == 1
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), _axis("axis")),
    **dict.fromkeys(("Gather", "Split"), _axis("axis")),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), _axes(1)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"), _axes(1)),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _axes(1)),
    "Slice": _axes(3),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": lambda node, rows, constants: (
        _only_first(node, rows, constants) and node.attrs["axis"] == 1
    ),
    "Transpose": lambda node, rows, constants: (
        _only_first(node, rows, constants) and (node.attrs["perm"] or [-1])[0] == 0
    ),
}
"""For operators that are not elementwise: what makes them treat rows apart."""
