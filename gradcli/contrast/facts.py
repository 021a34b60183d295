"""What two models have in common, and what not: what every report of it is made from."""

from __future__ import annotations

from dataclasses import dataclass


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
        same: Whether no element differs by more than it may.
        index: The element that differs most, for what it may.
        first: It in the first model.
        second: It in the second.
        cosine: Of the angle between both, as vectors; NaN where one is 0.
        sign_changes: Elements with opposite signs, both beyond what they may differ by.
        top: Of how many of the largest elements it is asked whether they are still the largest.
        overlap: How many of these are.
    """

    of: str
    wrt: str
    shape: tuple[int, ...]
    size: float
    difference: float
    uncertainty: float
    tolerance: float
    same: bool
    index: tuple[int, ...]
    first: float
    second: float
    cosine: float
    sign_changes: int
    top: int
    overlap: int


@dataclass(frozen=True)
class Departure:
    """The first tensor of both models that is not the same.

    Attributes:
        tensor: Its name.
        node: The node of the first model that makes it.
        op: Its operator.
        other: The operator that makes it in the second model; empty for an input.
        difference: The largest difference.
        size: The largest element.
    """

    tensor: str
    node: str
    op: str
    other: str
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
        value: Where the values first depart, from the inputs on; None where they do not.
        cotangent: Where cotangents first depart, from the outputs back; likewise.
        common: How many inner tensors have a name in both.
        rtol: Relative tolerance asked for, of the largest element; None for rounding alone.
        undecided: Why a difference says nothing here; empty where it does.
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
        if all(block.same for block in (*self.primal, *self.derivative)):
            return "SAME"
        return "UNDECIDED" if self.undecided else "DIFFER"

    @property
    def exit_code(self) -> int:
        """0 for the same, 1 for a difference, 3 where neither can be said."""
        return {"SAME": 0, "DIFFER": 1, "UNDECIDED": 3}[self.verdict]
