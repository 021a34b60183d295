"""What two models have in common, and what not: what every report of it is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Block:
    """A tensor of both models, or a block of their derivatives.

    Attributes:
        of: What is differentiated; of a primal output its name.
        wrt: What it is differentiated with respect to; empty for a primal output.
        shape: Its shape.
        size: Its largest element, in the first model.
        difference: The largest difference.
        uncertainty: How far rounding in the models' own width may move that element.
        tolerance: What that difference may be.
        excess: The difference of the element that is furthest off, in what it may be.
        same: Whether no element differs by more than it may.
        unclear: Whether it is the same only as rounding may move it by a tenth of its size, and was
            not allowed to: a difference could hide there.
        index: The element that differs most, for what it may.
        first: It in the first model.
        second: It in the second.
        cosine: Of the angle between both, as vectors; NaN where one is 0.
        sign_changes: Elements with opposite signs, both beyond what they may differ by.
        top: Of how many of the largest elements, zeros left out, it is asked whether they are still
            among as many largest.
        overlap: How many of these are, but for what may differ.
        unfit: Elements that are no finite numbers in both.
    """

    of: str
    wrt: str
    shape: tuple[int, ...]
    size: float
    difference: float
    uncertainty: float
    tolerance: float
    excess: float
    same: bool
    unclear: bool
    index: tuple[int, ...]
    first: float
    second: float
    cosine: float
    sign_changes: int
    top: int
    overlap: int
    unfit: int

    @property
    def share(self) -> float:
        """The largest difference, of the largest element; infinite beside a zero."""
        if self.difference == 0.0:
            return 0.0
        return self.difference / self.size if self.size > 0.0 else math.inf


@dataclass(frozen=True)
class Departure:
    """The first tensor of the first model that has no equal in the second.

    Attributes:
        what: What of it differs: its `value`, its `slope` along the inputs where values are equal,
            or its `cotangent`.
        tensor: Its name.
        node: The node of the first model that makes it.
        op: Its operator.
        other_node: The node of the second model that is in its place; empty where there is none.
        other: Its operator; likewise.
        constants: What that node reads in the first model that the second has not: a weight.
        after: The tensor before it, which is still equal; empty where there is none.
        equals: Its name in the second model; several where several are equal.
        turned: Whether its axes stand in another order there.
        difference: The largest difference; NaN where no tensor of the second is in its place.
        size: The largest element.
    """

    what: Literal["value", "slope", "cotangent"]
    tensor: str
    node: str
    op: str
    other_node: str
    other: str
    constants: tuple[str, ...]
    after: str
    equals: tuple[str, ...]
    turned: bool
    difference: float
    size: float


@dataclass(frozen=True)
class Contrast:
    """Two models, held against each other at a point.

    Attributes:
        first: The first file.
        second: The other.
        operator: Of the derivative.
        primal: The outputs.
        derivative: The blocks of the derivative.
        value: Where values, or their slopes, first depart, from the inputs on; None where they do
            not.
        cotangent: Where cotangents first depart, from the outputs back; likewise.
        common: How many inner tensors of the first model have an equal in the second.
        rtol: Relative tolerance asked for, of the largest element; None for rounding alone.
        undecided: Why neither can be said here; empty where it can.
        notes: How the question was completed, and what is odd.
    """

    first: str
    second: str
    operator: str
    primal: tuple[Block, ...]
    derivative: tuple[Block, ...]
    value: Departure | None
    cotangent: Departure | None
    common: int
    rtol: float | None
    undecided: str
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """`SAME`, `DIFFER` or `UNDECIDED`."""
        if self.undecided:
            return "UNDECIDED"
        same = all(block.same for block in (*self.primal, *self.derivative))
        return "SAME" if same else "DIFFER"

    @property
    def exit_code(self) -> int:
        """0 for the same, 1 for a difference, 3 where neither can be said."""
        return {"SAME": 0, "DIFFER": 1, "UNDECIDED": 3}[self.verdict]
