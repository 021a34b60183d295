"""jvp, vjp, gradient and Jacobian as graphs that need nothing but the point and the directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Graph, Shape, Value, Var, is_static, size
from gradcli.ops import Table
from gradcli.transform import Derivative, jvp, simplify, vjp, vmap
from gradcli.transform.rewrite import Rewriter
from gradcli.transform.vmap import BATCH

FOLDED = 1 << 12
"""Bytes of the largest constant that is made of others: a transposed weight is no second weight."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a derivative, and what it is.

    Attributes:
        name: What it is called.
        role: `primal`, `tangent`, `cotangent` or `derivative`.
        of: The differentiated tensor that it belongs to; empty where there is none.
        wrt: The tensor differentiated with respect to that it belongs to; likewise.
    """

    name: str
    role: str
    of: str = ""
    wrt: str = ""


@dataclass(frozen=True)
class Made:
    """A derivative graph and what its inputs and outputs are.

    Attributes:
        graph: Its inputs are the primal's, then the directions.
        inputs: One for each input, in order.
        outputs: One for each output, in order.
        zero: Names of the outputs that are 0 because no derivative flows there.
    """

    graph: Graph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    zero: tuple[str, ...]


def derivative_graph(
    primal: Graph,
    operator: str,
    wrt: Sequence[str],
    of: Sequence[str],
    table: Table,
    *,
    with_primal: bool = False,
    per_row: bool = False,
) -> Made:
    """The graph of a derivative.

    Args:
        primal: From `wrt` to `of`; its dimensions may be open.
        operator: `jvp` and `vjp` take directions, inputs of the shapes of `wrt` and `of`. A
            `gradient` is the vjp of ones: of a batch of numbers, the gradient of their sum. A
            `jacobian` is of the shape of `of`, then that of `wrt`.
        wrt: Names of inputs of the primal.
        of: Names of its outputs.
        table: Cards.
        with_primal: Whether the primal's outputs come too, before the derivative.
        per_row: For a Jacobian: whether the first axis of all tensors is taken for one batch, each
            row of which hangs on its own row alone; it is then there once.

    Raises:
        UnsupportedError: When an operator on the way has no rule; it names the node.
        CannotError: For a Jacobian, when one cannot carry several directions at once.
    """
    if operator == "jacobian":
        return _jacobian(primal, wrt, of, table, with_primal, per_row)
    d = (jvp if operator == "jvp" else vjp)(primal, wrt, of, table)
    graph = d.graph
    if operator == "gradient":
        ones = {d.directions[name]: _ones(name) for name in of}
        graph = _seeded(graph, ones, table)
    b = Builder(table, start=graph)
    ends, outputs, zero = _primal(graph, of, with_primal)
    for name in of if operator == "jvp" else wrt:
        role = Tensor("", "derivative", name, "") if operator == "jvp" else Tensor("", "", "", name)
        if name in d.results:
            ends.append(_value(graph, d.results[name]))
        else:
            like = b.var(_value(graph, name))
            suffix = "dot" if operator == "jvp" else "bar"
            made = b.op("Expand", b.like(0.0, like), b.shape_of(like), name=f"{name}_{suffix}")
            ends.append(made.value)
            zero.append(made.value.name)
        outputs.append(Tensor(ends[-1].name, "derivative", role.of, role.wrt))
    directions = {}
    if operator != "gradient":
        role_of = "tangent" if operator == "jvp" else "cotangent"
        directions = {given: (role_of, name) for name, given in d.directions.items()}
    return _made(b, ends, outputs, zero, directions, table)


def _primal(
    graph: Graph, of: Sequence[str], wanted: bool
) -> tuple[list[Value], list[Tensor], list[str]]:
    if not wanted:
        return [], [], []
    ends = [_value(graph, name) for name in of]
    return ends, [Tensor(v.name, "primal", v.name) for v in ends], []


def _value(graph: Graph, name: str) -> Value:
    value = graph.value(name)
    assert value is not None
    return value


def _made(
    b: Builder,
    ends: Sequence[Value],
    outputs: Sequence[Tensor],
    zero: Sequence[str],
    directions: Mapping[str, tuple[str, str]],
    table: Table,
    lead: int = 0,
) -> Made:
    graph = simplify(b.graph(map(b.var, ends)), table, most=FOLDED)
    old = {v.name: v.shape for v in b.inputs}
    old |= {v.name: v.shape for node in b.nodes for v in node.makes()}
    graph = declared(graph, {t.name: _shape(old, t, lead) for t in outputs})
    inputs = []
    for value in graph.inputs:
        role, name = directions.get(value.name, ("primal", ""))
        of, wrt = (name, "") if role == "cotangent" else ("", name)
        inputs.append(Tensor(value.name, role, of, wrt))
    return Made(graph, tuple(inputs), tuple(outputs), tuple(zero))


def _shape(known: Mapping[str, Shape | None], tensor: Tensor, lead: int) -> Shape | None:
    """That of `of`, then that of `wrt`: what rules compute says less of open dimensions."""
    y, x = (known[name] if name else () for name in (tensor.of, tensor.wrt))
    if y is None or x is None:
        return None
    return (*y, *(x[lead:] if tensor.of else x))


def declared(graph: Graph, shapes: Mapping[str, Shape | None]) -> Graph:
    """The graph with what is known of the shapes of its outputs."""
    new = {
        v: Value(v.name, v.dtype, shapes[v.name])
        for v in graph.outputs
        if shapes.get(v.name) is not None and v not in graph.inputs and v not in graph.constants
    }

    def now(values: Sequence[Value | None]) -> list[Value | None]:
        return [None if v is None else new.get(v, v) for v in values]

    nodes = tuple(node.on(now(node.inputs), now(node.outputs)) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(new.get(v, v) for v in graph.outputs))


# ---- directions that the graph makes itself ------------------------------------------------------

Seed = Callable[[Rewriter], Var]
"""Makes a direction in the new graph, once all that it needs stands there."""


def _seeded(graph: Graph, seeds: Mapping[str, Seed], table: Table) -> Graph:
    """The graph with some inputs made by itself, just before they are read."""
    r = Rewriter(graph, table)
    waiting = {v: seeds[v.name] for v in graph.inputs if v.name in seeds}
    for value in graph.inputs:
        if value not in waiting:
            r.env[value] = r.b.adopt_input(value)
    for value, array in graph.constants.items():
        r.env[value] = r.b.adopt_constant(value, array)
    for node in graph.nodes:
        for value in node.reads():
            if value in waiting:
                r.env[value] = waiting.pop(value)(r)
        r.copy(node)
    for value in graph.outputs:
        if value in waiting:
            r.env[value] = waiting.pop(value)(r)
    return r.finish()


def _ones(name: str) -> Seed:
    def seed(r: Rewriter) -> Var:
        y = r.env[_value(r.old, name)]
        return r.b.op("Expand", r.b.like(1.0, y), r.b.shape_of(y))

    return seed


# ---- Jacobians -----------------------------------------------------------------------------------


def _jacobian(
    primal: Graph,
    wrt: Sequence[str],
    of: Sequence[str],
    table: Table,
    with_primal: bool,
    per_row: bool,
) -> Made:
    """Rows (or columns, where those are fewer) at once: the identity is pulled back, or pushed."""
    lead = int(per_row)
    back = _known(primal, of, lead) <= _known(primal, wrt, lead)
    d = vjp(primal, wrt, of, table) if back else jvp(primal, wrt, of, table)
    ends, others = (of, wrt) if back else (wrt, of)
    values = [_value(primal, name) for name in ends]
    shapes = [(v.shape or ())[lead:] for v in values]
    count = sum(map(size, shapes)) if all(map(is_static, shapes)) else BATCH
    graph = vmap(d.graph, d.directions.values(), count, table)
    seeds = {d.directions[name]: _identity(name, ends, lead) for name in ends}
    graph = _seeded(graph, seeds, table)
    b = Builder(table, start=graph)
    made, outputs, zero = _primal(graph, of, with_primal)
    for y in of:
        for x in wrt:
            end, other = (y, x) if back else (x, y)
            block = _block(b, graph, d, end, other, ends, back, lead)
            shape = _joined(b, graph, y, x, lead)
            if block is None:
                zeros = b.op("Expand", b.like(0.0, b.var(_value(graph, x))), shape, name=f"{y}/{x}")
                zero.append(zeros.value.name)
            else:
                zeros = b.op("Reshape", block, shape, allowzero=1, name=f"{y}/{x}")
            made.append(zeros.value)
            outputs.append(Tensor(zeros.value.name, "derivative", y, x))
    assert len(others) > 0
    return _made(b, made, outputs, zero, {}, table, lead)


def _known(graph: Graph, names: Sequence[str], lead: int) -> int:
    """Elements of some tensors, open dimensions taken for 1."""
    shapes = ((_value(graph, name).shape or ())[lead:] for name in names)
    return sum(size(tuple(d for d in shape if isinstance(d, int))) for shape in shapes)


def _dims(b: Builder, x: Var, lead: int) -> Var:
    """The dimensions of x after the batch."""
    if x.shape is None:
        raise UnsupportedError(f"the rank of {x.value.name!r} is not known before the run")
    rest = x.shape[lead:]
    if is_static(rest):
        return b.ints(int(d) for d in rest)
    return b.op("Shape", x, start=lead)


def _sizes(b: Builder, find: Callable[[str], Var], ends: Sequence[str], lead: int) -> list[Var]:
    """Where the elements of each tensor start among those of all, int64[1]; then their number."""
    starts = [b.ints([0])]
    for name in ends:
        dims = _dims(b, find(name), lead)
        starts.append(b.op("Add", starts[-1], b.op("ReduceProd", dims, keepdims=1)))
    return starts


def _identity(name: str, ends: Sequence[str], lead: int) -> Seed:
    """Its rows of the identity over all elements of `ends`: [all, *shape]."""

    def seed(r: Rewriter) -> Var:
        b = r.b

        def find(other: str) -> Var:
            return r.env[_value(r.old, other)]

        starts, k = _sizes(b, find, ends, lead), list(ends).index(name)
        zero, one = b.ints([0]), b.ints([1])
        scalar = b.ints([])

        def count(start: Var, stop: Var) -> Var:
            ends_ = (b.op("Reshape", v, scalar) for v in (start, stop, one))
            return b.op("Range", *ends_)

        rows = b.op("Unsqueeze", count(zero, starts[-1]), one)
        columns = b.op("Unsqueeze", count(starts[k], starts[k + 1]), zero)
        x = find(name)
        eye = b.cast(b.op("Equal", rows, columns), x.dtype)
        dims = [starts[-1], *([one] * lead), _dims(b, x, lead)]
        made = b.op("Reshape", eye, b.op("Concat", *dims, axis=0))
        if not lead:
            return made
        return b.op("Expand", made, b.op("Concat", starts[-1], b.op("Shape", x), axis=0))

    return seed


def _block(
    b: Builder,
    graph: Graph,
    d: Derivative,
    end: str,
    other: str,
    ends: Sequence[str],
    back: bool,
    lead: int,
) -> Var | None:
    """What one tensor's rows of the identity came to, its elements in the order of the block."""
    if other not in d.results:
        return None
    image = b.var(_value(graph, d.results[other]))
    if len(ends) > 1:
        starts = _sizes(b, lambda name: b.var(_value(graph, name)), ends, lead)
        k = list(ends).index(end)
        image = b.op("Slice", image, starts[k], starts[k + 1], b.ints([0]))
    rank = image.rank
    if back:
        return b.op("Transpose", image, perm=(1, 0, *range(2, rank))) if lead else image
    return b.op("Transpose", image, perm=(*range(1, rank), 0)) if rank > 1 else image


def _joined(b: Builder, graph: Graph, y: str, x: str, lead: int) -> Var:
    """The shape of a block: that of y, then that of x."""
    one, other = (b.var(_value(graph, name)) for name in (y, x))
    return b.op("Concat", _dims(b, one, 0), _dims(b, other, lead), axis=0)
