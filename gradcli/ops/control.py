"""Control flow, sequences and optional values: operators without cards, written out at a point.

What they are there hangs on what runs, so `transform` puts plain nodes in their place before any
rule is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Control:
    """What can be said of such an operator without a point.

    Attributes:
        op: Its name in ai.onnx.
        becomes: What stands in its place at a point.
        carries: The operands through which derivatives flow.
        flat: The others that decide something, each with the reason why none flows there.
        reason: Where none flows through any operand: why.
    """

    op: str
    becomes: str
    carries: tuple[str, ...]
    flat: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether no derivative flows through any operand."""
        return bool(self.reason)


_WAY = "a truth value decides which way it goes"
_TRIPS = "a number of trips is whole"
_PLACE = "a place is a whole number"
_SIZES = "sizes are whole numbers"
_HELD = "the tensors that it holds at the point"

_ALL = (
    Control("If", "the branch that it takes at the point", ("captured",), {"cond": _WAY}),
    Control(
        "Loop",
        "the trips that it makes at the point",
        ("v_initial", "captured"),
        {"M": _TRIPS, "cond": _WAY},
    ),
    Control(
        "Scan",
        "the steps that it makes at the point",
        ("initial_state_and_scan_inputs", "captured"),
    ),
    Control(
        "SequenceMap",
        "its body on each tensor of the point's sequence",
        ("input_sequence", "additional_inputs", "captured"),
    ),
    Control("SequenceEmpty", _HELD, (), reason="it has no operands"),
    Control("SequenceConstruct", _HELD, ("inputs",)),
    Control("SequenceInsert", _HELD, ("input_sequence", "tensor"), {"position": _PLACE}),
    Control("SequenceErase", _HELD, ("input_sequence",), {"position": _PLACE}),
    Control(
        "SequenceAt",
        "the tensor that it takes at the point",
        ("input_sequence",),
        {"position": _PLACE},
    ),
    Control("SequenceLength", "a whole number", (), reason="a number of tensors is whole"),
    Control(
        "ConcatFromSequence",
        "the tensors of the sequence at the point, joined",
        ("input_sequence",),
    ),
    Control(
        "SplitToSequence", "the parts that it makes at the point", ("input",), {"split": _SIZES}
    ),
    Control("Optional", "what it holds at the point", ("input",)),
    Control("OptionalGetElement", "what is held at the point", ("input",)),
    Control(
        "OptionalHasElement", "a truth value", (), reason="whether there is something is no number"
    ),
)

CONTROL: Mapping[str, Control] = MappingProxyType({c.op: c for c in _ALL})
"""By name."""
