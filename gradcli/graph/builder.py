"""The Builder makes graphs, and answers what a derivative rule may ask about shapes.

A rule never reads a shape: it asks the Builder, which folds the answer to a constant where the
shape is known and emits shape operators where it is not. So one rule serves a graph of fixed
shapes and one whose batch is dynamic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from gradcli.errors import InternalError
from gradcli.graph.dtypes import DType, Shape, Type, is_static, size
from gradcli.graph.ir import Graph, Node, Value


class OpTable(Protocol):
    """What the Builder must know of operators: their defaults and the types of their results.

    Attributes:
        exact: Whether rules write irrational numbers as operators, and not as floats next to them.
    """

    exact: bool

    def __contains__(self, key: object) -> bool:
        """Whether the operator of this full name (`Conv`, `domain::Op`) is known."""

    def attributes(self, key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The given attributes with every default filled in; refuses unknown ones."""

    def infer(
        self, builder: Builder, key: str, inputs: Sequence[Value | None], attrs: Mapping[str, Any]
    ) -> Sequence[Type]:
        """The dtype and shape of every output that the operator can have."""


class Var:
    """A value together with the Builder that it belongs to, so that rules read as mathematics.

    `+ - * /`, unary minus and comparisons emit nodes; a Python number on either side becomes a
    constant of this value's dtype. Adding 0 and multiplying by 1 emit nothing.
    """

    __slots__ = ("b", "value")

    def __init__(self, b: Builder, value: Value) -> None:
        self.b = b
        self.value = value

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.value.dtype

    @property
    def shape(self) -> Shape | None:
        """Shape, for shape rules and for the Builder; a derivative rule asks the Builder."""
        return self.value.shape

    @property
    def rank(self) -> int:
        """Number of dimensions.

        Raises:
            InternalError: Where the rank is unknown; specialise the graph first.
        """
        if self.value.shape is None:
            raise InternalError(f"the rank of {self.value.name!r} is not known")
        return len(self.value.shape)

    @property
    def const(self) -> np.ndarray | None:
        """The array, when this is a constant of the graph."""
        return self.b.constants.get(self.value)

    def __add__(self, other: Var | float) -> Var:
        return self if _is(other, 0) else self.b.op("Add", self, self.b.like(other, self))

    def __radd__(self, other: float) -> Var:
        return self + other

    def __sub__(self, other: Var | float) -> Var:
        return self if _is(other, 0) else self.b.op("Sub", self, self.b.like(other, self))

    def __rsub__(self, other: float) -> Var:
        return self.b.op("Sub", self.b.like(other, self), self)

    def __mul__(self, other: Var | float) -> Var:
        if _is(other, -1):
            return -self
        return self if _is(other, 1) else self.b.op("Mul", self, self.b.like(other, self))

    def __rmul__(self, other: float) -> Var:
        return self * other

    def __truediv__(self, other: Var | float) -> Var:
        return self if _is(other, 1) else self.b.op("Div", self, self.b.like(other, self))

    def __rtruediv__(self, other: float) -> Var:
        return self.b.op("Div", self.b.like(other, self), self)

    def __neg__(self) -> Var:
        return self.b.op("Neg", self)

    def __gt__(self, other: Var | float) -> Var:
        return self.b.op("Greater", self, self.b.like(other, self))

    def __lt__(self, other: Var | float) -> Var:
        return self.b.op("Less", self, self.b.like(other, self))

    def __repr__(self) -> str:
        return repr(self.value)


def _is(x: Var | float, number: int) -> bool:
    return not isinstance(x, Var) and x == number


class Builder:
    """Collects nodes and constants, infers types, invents names, and at last makes a Graph.

    Args:
        table: What is known of operators.
        start: A graph whose inputs, nodes and constants come first, shared, not copied.
    """

    def __init__(self, table: OpTable, start: Graph | None = None) -> None:
        self.table = table
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, np.ndarray] = {}
        self.captures: tuple[Value, ...] = ()
        self._names: set[str] = set()
        self._symbols: set[str] = set()
        self._counter = itertools.count(1)
        self._fresh = itertools.count(1)
        self._shared: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._origin = ""
        if start is not None:
            self.inputs += start.inputs
            self.captures = start.captures
            self.constants.update(start.constants)
            self._take(start.inputs)
            self._take(start.constants)
            self._take(start.captures)
            for node in start.nodes:
                self.emit(node)

    # ---- values -------------------------------------------------------------------------------

    def var(self, value: Value) -> Var:
        """A handle on a value that this Builder already holds."""
        return Var(self, value)

    def input(self, name: str, dtype: DType, shape: Shape | None) -> Var:
        """A new graph input, under exactly this name.

        Raises:
            InternalError: When the name is taken.
        """
        if name in self._names:
            raise InternalError(f"the name {name!r} is taken")
        return self.adopt_input(Value(name, dtype, shape))

    def adopt_input(self, value: Value) -> Var:
        """Take over a value of another graph as an input."""
        self._take([value])
        self.inputs.append(value)
        return Var(self, value)

    def adopt_constant(self, value: Value, array: np.ndarray) -> Var:
        """Take over a constant of another graph, array and identity."""
        self._names.add(value.name)
        self.constants[value] = array
        return Var(self, value)

    def emit(self, node: Node) -> None:
        """Take over a finished node as it is."""
        self._take(node.makes())
        self.nodes.append(node)

    def _take(self, values: Iterable[Value]) -> None:
        """Keep these values' names, and the symbols in their shapes, from being invented again."""
        for value in values:
            self._names.add(value.name)
            self._symbols.update(d for d in value.shape or () if isinstance(d, str))

    def free(self, stem: str) -> str:
        """A name that nothing in the graph has yet, as near to the stem as that allows."""
        name = stem
        while name in self._names:
            name = f"{stem}_{next(self._counter)}"
        return name

    def name(self, stem: str) -> str:
        """A free name near this stem, taken from now on."""
        name = self.free(stem)
        self._names.add(name)
        return name

    def constant(self, array: Any, dtype: DType | None = None, name: str = "") -> Var:
        """A constant of this array; small equal ones become one value."""
        data = np.asarray(array, dtype=None if dtype is None else dtype.np)
        kind = DType.of(data) if dtype is None else dtype
        key = None
        if not name and data.nbytes <= 1024 and kind is not DType.STRING:
            key = (kind.value, data.shape, data.tobytes())
            if key in self._shared:
                return Var(self, self._shared[key])
        data = data.copy() if data.base is not None or data.flags.writeable else data
        data.setflags(write=False)
        value = Value(self.name(name or "const"), kind, data.shape)
        self.constants[value] = data
        if key is not None:
            self._shared[key] = value
        return Var(self, value)

    def like(self, x: Var | float | np.ndarray, other: Var) -> Var:
        """`x` as a value: a Var as it is, a number or array as a constant of `other`'s dtype.

        A finite number that float16 does not reach is its largest.
        """
        if isinstance(x, Var):
            return x
        if isinstance(x, float) and other.dtype is DType.FLOAT16 and math.isfinite(x):
            x = max(-other.dtype.greatest, min(other.dtype.greatest, x))
        return self.constant(x, other.dtype)

    def ints(self, values: Iterable[int]) -> Var:
        """A 1-D int64 constant, as axes and shapes are given to operators."""
        return self.constant(np.array(list(values), dtype=np.int64))

    # ---- nodes --------------------------------------------------------------------------------

    @contextmanager
    def serving(self, origin: str) -> Iterator[None]:
        """Nodes emitted inside serve this primal node, so reports can name it."""
        before, self._origin = self._origin, origin
        try:
            yield
        finally:
            self._origin = before

    def op(self, key: str, *inputs: Var | None, name: str = "", **attrs: Any) -> Var:
        """Emit an operator and return its first output.

        Args:
            key: Operator name, with `domain::` before it outside ai.onnx.
            *inputs: Operands; None for an optional one left out.
            name: Stem of the output's name.
            **attrs: Attributes; those not given take the card's defaults.
        """
        return self.ops(key, *inputs, outputs=1, name=name, **attrs)[0]

    def ops(
        self, key: str, *inputs: Var | None, outputs: int, name: str = "", **attrs: Any
    ) -> tuple[Var, ...]:
        """Emit an operator and return its first `outputs` outputs."""
        domain, _, op = key.rpartition("::")
        full = self.table.attributes(key, attrs)
        operands = [None if x is None else x.value for x in inputs]
        while operands and operands[-1] is None:
            operands.pop()
        types = self.table.infer(self, key, operands, full)
        stem = name or op.lower()
        made = tuple([Value(self.name(stem), *types[k]) for k in range(outputs)])
        self.nodes.append(Node(op, tuple(operands), made, full, domain, made[0].name, self._origin))
        return tuple([Var(self, value) for value in made])

    def foreign(self, op: str, *inputs: Var | None, like: Type, **attrs: Any) -> Var:
        """Emit an operator that the table need not know, for whoever only writes graphs out.

        Args:
            op: Operator name in ai.onnx.
            *inputs: Operands.
            like: The result's dtype and shape.
            **attrs: All attributes that are not at their default.
        """
        made = Value(self.name(op.lower()), *like)
        given = tuple(None if x is None else x.value for x in inputs)
        full = self.table.attributes(op, attrs) if op in self.table else attrs
        self.nodes.append(Node(op, given, (made,), full, "", made.name, self._origin))
        return Var(self, made)

    def reserve(self, graph: Graph) -> None:
        """Keep every name of a graph free for its own values, which `copy` will bring."""
        self._take(graph.values())

    def copy(self, node: Node, operands: Sequence[Var | None]) -> tuple[Var | None, ...]:
        """Emit a node of another graph on new operands: types are inferred anew, names stay."""
        given = [None if x is None else x.value for x in operands]
        types = self.table.infer(self, node.key, given, node.attrs)
        made = [
            None if old is None else Value(old.name, *types[k])
            for k, old in enumerate(node.outputs)
        ]
        self.nodes.append(node.on(given, made))
        return tuple([None if value is None else Var(self, value) for value in made])

    def fresh(self, rank: int) -> Shape:
        """A shape of this rank of which nothing else is known."""
        new = (symbol for k in self._fresh if (symbol := f"?{k}") not in self._symbols)
        return tuple(itertools.islice(new, rank))

    # ---- what rules ask about shapes ----------------------------------------------------------

    def shape_of(self, x: Var) -> Var:
        """The shape of x, int64[rank]: a constant where known, else a Shape node."""
        if is_static(x.shape):
            return self.ints(x.shape)  # type: ignore[arg-type] # static: all dims are ints
        return self.op("Shape", x)

    def count(self, x: Var, axes: Sequence[int] | None = None) -> Var | float:
        """How many elements x has along these axes (all when None), as a number of x's dtype."""
        if x.shape is not None:
            picked = [x.shape[a] for a in (range(x.rank) if axes is None else axes)]
            if is_static(tuple(picked)):
                return float(size(tuple(picked)))
        dims = self.op("Shape", x)
        if axes is not None:
            dims = self.op("Gather", dims, self.ints(axes), axis=0)
        return self.cast(self.op("ReduceProd", dims, keepdims=0), x.dtype)

    def same_shape(self, x: Var, y: Var) -> bool:
        """Whether the two are known to have one shape."""
        return x.shape is not None and x.shape == y.shape

    def unbroadcast(self, x_bar: Var, like: Var) -> Var:
        """Undo a broadcast: sum a cotangent over every axis along which `like` was repeated."""
        if self.same_shape(x_bar, like):
            return x_bar
        if x_bar.shape is None or like.shape is None:
            return self._unbroadcast_dynamic(x_bar, like)
        lead = len(x_bar.shape) - len(like.shape)
        axes = list(range(lead))
        for axis, dim in enumerate(like.shape):
            wide = x_bar.shape[lead + axis]
            if dim == 1 and wide != 1:
                axes.append(lead + axis)
            elif dim != wide and isinstance(dim, str):  # it may be 1
                return self._unbroadcast_dynamic(x_bar, like)
        keep = [a for a in axes if a >= lead]
        if keep:
            x_bar = self.sum(x_bar, axes=axes, keepdims=True)
            return self.reshape_like(x_bar, like) if lead else x_bar
        return self.sum(x_bar, axes=axes, keepdims=False)

    def _unbroadcast_dynamic(self, x_bar: Var, like: Var) -> Var:
        wide, narrow = self.op("Shape", x_bar), self.op("Shape", like)
        lead = self.op("Sub", self.op("Size", wide), self.op("Size", narrow))
        ones = self.op("Expand", self.ints([1]), self.op("Reshape", lead, self.ints([1])))
        padded = self.op("Concat", ones, narrow, axis=0)
        differs = self.op("Not", self.op("Equal", wide, padded))
        axes = self.op("Reshape", self.op("NonZero", differs), self.ints([-1]))
        summed = self.op("ReduceSum", x_bar, axes, keepdims=1, noop_with_empty_axes=1)
        return self._shaped(self.op("Reshape", summed, narrow, allowzero=1), like.shape)

    def _shaped(self, x: Var, shape: Shape | None) -> Var:
        """What was made last, with the shape that it is known to have."""
        if shape is None or is_static(x.shape):
            return x
        node, known = self.nodes[-1], Value(x.value.name, x.dtype, shape)
        self.nodes[-1] = node.on(node.inputs, [known if v is x.value else v for v in node.outputs])
        return Var(self, known)

    def reshape_like(self, x: Var, like: Var) -> Var:
        """x in the shape of `like` (same number of elements)."""
        if self.same_shape(x, like):
            return x
        # A dimension of 0, known or not, is meant as such and copies nothing.
        plain = is_static(like.shape) and 0 not in (like.shape or ())
        made = self.op("Reshape", x, self.shape_of(like), allowzero=int(not plain))
        return self._shaped(made, like.shape)

    def expand_like(self, x: Var, like: Var) -> Var:
        """x repeated to the shape of `like`, to which it broadcasts."""
        if self.same_shape(x, like):
            return x
        return self._shaped(self.op("Expand", x, self.shape_of(like)), like.shape)

    def zeros_like(self, x: Var) -> Var:
        """Zeros of x's shape and dtype."""
        return self.full_like(x, 0.0)

    def full_like(self, x: Var, number: float) -> Var:
        """One number, repeated to x's shape and of its dtype."""
        value = np.array([number], x.dtype.np)
        return self._shaped(self.op("ConstantOfShape", self.shape_of(x), value=value), x.shape)

    # ---- shorthands that rules use all the time -----------------------------------------------

    def sum(self, x: Var, axes: Sequence[int] | None, keepdims: bool) -> Var:
        """ReduceSum over these axes (all when None; nothing when empty)."""
        if axes is not None and not axes:
            return x
        at = None if axes is None else self.ints(axes)
        return self.op("ReduceSum", x, at, keepdims=int(keepdims))

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """x in this shape; one -1 stands for what is left, 0 keeps x's own dimension."""
        return self.op("Reshape", x, self.ints(shape))

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """x with its axes permuted; nothing is emitted for the identity."""
        perm = tuple(perm)
        return x if perm == tuple(range(len(perm))) else self.op("Transpose", x, perm=perm)

    def unsqueeze(self, x: Var, axes: Sequence[int]) -> Var:
        """x with axes of size 1 at these places of the result."""
        return self.op("Unsqueeze", x, self.ints(axes)) if axes else x

    def where(self, mask: Var, x: Var | float, y: Var | float, like: Var | None = None) -> Var:
        """x where the mask holds, else y; numbers take the dtype of the other, or of `like`."""
        typed = like or (x if isinstance(x, Var) else y)
        if not isinstance(typed, Var):
            raise InternalError("where() of two numbers needs `like`")
        return self.op("Where", mask, self.like(x, typed), self.like(y, typed))

    def cast(self, x: Var, dtype: DType) -> Var:
        """x in another element type; nothing is emitted when it has it already."""
        return x if x.dtype is dtype else self.op("Cast", x, to=dtype.value)

    def total(self, terms: Iterable[Var | None]) -> Var | None:
        """The sum of those terms that are there; absent when none is."""
        result: Var | None = None
        for term in terms:
            if term is not None:
                result = term if result is None else result + term
        return result

    # ---- the end ------------------------------------------------------------------------------

    def rename(self, x: Var, name: str) -> Var:
        """x under exactly this name, by an Identity node.

        Raises:
            InternalError: When the name is taken.
        """
        if name in self._names:
            raise InternalError(f"the name {name!r} is taken")
        return self.op("Identity", x, name=name)

    def graph(self, outputs: Iterable[Var], name: str = "") -> Graph:
        """The finished Graph."""
        return Graph(
            tuple(self.inputs),
            tuple(x.value for x in outputs),
            tuple(self.nodes),
            self.constants,
            self.captures,
            name,
        )
