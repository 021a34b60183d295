"""What is differentiated, with respect to what, where: the question every method gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Graph, Shape, Value, is_static
from gradcli.interpret import Evaluator
from gradcli.ops import OPS, Table
from gradcli.transform import Element, cast
from gradcli.transform.choices import Choice, plain
from gradcli.transform.unfold import Folded, computed, roots

if TYPE_CHECKING:
    from gradcli.onnxfile import Model


Key = tuple[str, str]
"""A block of a derivative: (of, wrt); of is "" for a gradient or vjp, wrt is "" for a jvp."""


@dataclass(frozen=True)
class Problem:
    """One question, put the same way to every method.

    Attributes:
        model: The file, for the primal by its original bytes.
        graph: The primal from `wrt` to `of`, shapes fixed, in the file's own widths.
        wrt: Names of the inputs of `graph` that are differentiated.
        of: Names of the outputs of `graph` that are differentiated.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`.
        point: An array for each input of `graph`, in the file's own dtypes.
        tangents: For a jvp: an array of its shape for each of `wrt`, float64; else empty.
        cotangents: For a vjp: an array of its shape for each of `of`, float64; for a gradient ones;
            else empty.
        dtype: The width in which forward and reverse compute.
        threads: For onnxruntime.
        provider: onnxruntime's execution provider.
        seed: Of every random choice.
        feeds: An array for each input of the whole model, for running its original bytes.
        elements: For each of `of`: the model's tensor and the part of it.
        notes: What a report must say of how the question was completed (random inputs, cotangents).
        straight_through: Whether the straight-through estimator is asked for, a convention, and not
            the derivative: then `graph` and `table` are its own.
        table: Cards; another table than OPS is for planting faults.
        fork: What decides which way the model's control flow goes, from the model's inputs to
            conditions, trip counts and positions; None where nothing but shapes does.
        branches: By name of the tensor: what each of these is at the point. `graph` has the
            branches taken in the place of the Ifs, and the trips made in that of the loops: only at
            the edge of such a choice is its derivative another one.
        tuned: The number of threads that derivative graphs are tuned for; None: that of `threads`.
        folded: How constants of `graph` were computed from the file's.
    """

    model: Model | None
    graph: Graph
    wrt: tuple[str, ...]
    of: tuple[str, ...]
    operator: str
    point: Mapping[str, np.ndarray]
    tangents: Mapping[str, np.ndarray]
    cotangents: Mapping[str, np.ndarray]
    dtype: DType
    threads: int = 1
    provider: str = "CPUExecutionProvider"
    seed: int = 0
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)
    elements: tuple[Element, ...] = ()
    notes: tuple[str, ...] = ()
    table: Table = OPS
    fork: Graph | None = None
    branches: Mapping[str, Choice] = field(default_factory=dict)
    straight_through: bool = False
    tuned: int | None = None
    folded: Folded = field(default_factory=Folded)

    def same_branches(self, feeds: Mapping[str, np.ndarray]) -> bool:
        """Whether the model's control flow goes the same ways at other inputs of the model."""
        if self.fork is None:
            return True
        try:
            return choices_at(self.fork, feeds, self.table) == self.branches
        except UnsupportedError:
            return False  # beside the way that it takes, not all can be computed

    @cached_property
    def exact(self) -> Graph:
        """The primal with every float tensor in float64: what the saved function means.

        Also where the file computes a part in another width: mixed precision is no staircase.
        Likewise what it computes from constants is rounded to float64, not first to its own width.
        """
        whole = cast(self.graph, DType.FLOAT64, self.table, arithmetic=True)
        names = roots(self.graph, self.folded, self.table)
        if not names:
            return whole
        part = cast(computed(self.folded, names), DType.FLOAT64, self.table, arithmetic=True)
        wide = Evaluator(part, table=self.table).run({})
        return replace(
            whole, constants={v: wide.get(v.name, a) for v, a in whole.constants.items()}
        )

    @cached_property
    def own(self) -> Graph:
        """The primal in the width that forward and reverse compute in."""
        if self.dtype is DType.FLOAT64:
            return self.exact
        widths = {v.dtype for v in self.graph.values() if v.dtype.is_float}
        return self.graph if widths <= {self.dtype} else cast(self.graph, self.dtype, self.table)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {v.name: static(v) for v in (*self.graph.inputs, *self.graph.outputs)}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor in `wrt` or `of`."""
        return self._shapes[name]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The blocks of the answer."""
        if self.operator == "jvp":
            return tuple((of, "") for of in self.of)
        if self.operator == "jacobian":
            return tuple((of, wrt) for of in self.of for wrt in self.wrt)
        return tuple(("", wrt) for wrt in self.wrt)

    def block_shape(self, key: Key) -> tuple[int, ...]:
        """The shape of one block: that of `of`, then that of `wrt`."""
        of, wrt = key
        return (*(self.shape(of) if of else ()), *(self.shape(wrt) if wrt else ()))

    @cached_property
    def columns(self) -> int:
        """How many numbers are differentiated with respect to."""
        return sum(int(np.prod(self.shape(name))) for name in self.wrt)

    @cached_property
    def rows(self) -> int:
        """How many numbers are differentiated."""
        return sum(int(np.prod(self.shape(name))) for name in self.of)


def choices_at(
    fork: Graph, feeds: Mapping[str, np.ndarray], table: Table = OPS
) -> dict[str, Choice]:
    """The outputs of a graph, each whole numbers or truth values, in float64 arithmetic."""
    out = Evaluator(cast(fork, DType.FLOAT64, table), table=table).run(feeds)
    return {v.name: plain(out[v.name]) for v in fork.outputs}


def static(value: Value) -> tuple[int, ...]:
    """The shape of a value, which must be known.

    Raises:
        UnsupportedError: When it is not known before the run.
    """
    shape: Shape | None = value.shape
    if shape is None or not is_static(shape):
        raise UnsupportedError(
            f"the shape of tensor {value.name!r} is not known before the run",
            "differentiate a tensor whose shape follows from the inputs' shapes",
        )
    return tuple(int(d) for d in shape)
