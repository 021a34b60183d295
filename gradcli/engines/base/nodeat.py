"""What is followed through a graph, and what is found of one of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradcli.engines.base.alone import LocalError
from gradcli.engines.base.program import Arrays


@dataclass(frozen=True)
class Focus:
    """The number whose error is followed: cotangents times the Jacobian times tangents.

    Attributes:
        label: What it is, in words.
        tangents: For each of `wrt`.
        cotangents: For each of `of`.
        place: Which element of the answer that is, flat, one block after another; -1 for none.
        method: The method whose error it is; empty where it is nobody's.
        primal: Whether it is the error of the outputs themselves.
    """

    label: str
    tangents: Arrays
    cotangents: Arrays
    place: int = -1
    method: str = ""
    primal: bool = False


@dataclass(frozen=True)
class NodeAt:
    """One of the user's nodes at the point.

    Attributes:
        node: Its name.
        op: Its operator.
        inner: The operator that is worst of those that it is made of.
        ulps: The largest error of its result by onnxruntime, in units of the last place.
        misfit: That error in units of what rounding each operand once would make of the result.
        condition: How much larger a relative error the result has than the operands.
        derivatives: What each method makes of its derivative, by method.
        kernels: By method: likewise of the worst of the operators that its derivative is run as.
        primal_share: What its own rounding adds to the error of the focus, in whatever is computed
            in the model's width; None where not known.
        output_share: What it adds to the error of the outputs, summed with the focus' cotangents.
        tie: Whether an element is exactly on a kink.
        edge: What lies there, where an element is exactly at the edge of the domain.
        steps: Whether it cuts the derivative off because its result moves by jumps.
        balls: Whether it was held against enclosures, and not against float64.
    """

    node: str
    op: str
    inner: str = ""
    ulps: float = 0.0
    misfit: float = 0.0
    condition: float = 0.0
    derivatives: Mapping[str, LocalError] = field(default_factory=dict)
    kernels: Mapping[str, float] = field(default_factory=dict)
    primal_share: float | None = None
    output_share: float | None = None
    tie: bool = False
    edge: str = ""
    steps: bool = False
    balls: bool = True
