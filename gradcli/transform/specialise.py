"""Fix the shapes of a graph to those of given inputs, and compute what follows from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from gradcli.graph import Graph, Value, burst
from gradcli.graph.dtypes import DType, Shape
from gradcli.ops import OPS, Table
from gradcli.transform.choices import Choices
from gradcli.transform.specialiser import Specialiser
from gradcli.transform.unfold import Folded
from gradcli.transform.unroll import RESOLVE, WALKED


@burst()
def specialise(
    graph: Graph,
    shapes: Mapping[str, Shape],
    values: Mapping[str, np.ndarray] | None = None,
    table: Table = OPS,
    keep: Collection[str] = (),
    choices: Choices | None = None,
    folded: Folded | None = None,
) -> Graph:
    """The graph for inputs of these shapes: every type inferred anew, shape arithmetic done.

    What the file declares of shapes is dropped: only what the cards infer counts. Names of values
    and nodes stay; a computed value becomes a constant of its own name. Control flow whose choices
    are known is written out: the branch of an If stands in its place, the trips of a Loop or a Scan
    one after the other, and sequences are the tensors that they hold.

    Args:
        graph: The graph as read.
        shapes: By name: those of inputs, in which symbols stay open, and those of further tensors
            as far as they are known from elsewhere, which count where the cards cannot tell.
        values: Inputs that become constants: integers that structure may hang on.
        table: Cards. A node without one is carried over as it is.
        keep: Names of tensors that will be varied: nothing is computed from their values, although
            they may be constants of the file.
        choices: What control flow hangs on, as far as that is known from elsewhere than from
            constants, such as from an evaluation at a point.
        folded: Is told how float constants were computed.

    Raises:
        UnfitError: When shapes do not fit together; it names the node.
        UnsupportedError: When control flow is too long to be written out.
    """
    values = values or {}
    s = Specialiser(
        graph,
        table,
        frozenset(keep),
        shapes,
        choices or Choices(),
        folded or Folded(),
        RESOLVE,
        WALKED,
    )

    def retype(v: Value) -> tuple[DType, Shape | None]:
        return v.dtype, shapes.get(v.name, v.shape)

    s.adopt_inputs(retype)
    for value in graph.inputs:
        if value.name in values:
            s.b.inputs.remove(s.env[value].value)
            s.env[value] = s.constant(value.name, values[value.name].astype(value.dtype.np))
    for node in graph.nodes:
        s.visit(node)
    return s.finish()
