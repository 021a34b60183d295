"""Which input and output of one model is which of another's: by name, else by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradcli.errors import InputError
from gradcli.graph import Value
from gradcli.onnxfile import Model


@dataclass(frozen=True)
class Match:
    """What the tensors of one model are called in another.

    Attributes:
        inputs: Names in the second model by those in the first.
        outputs: Likewise.
        notes: What was matched by position.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    notes: tuple[str, ...]


def matched(first: Model, second: Model) -> Match:
    """Match the inputs and outputs of two models.

    Raises:
        InputError: When they do not have as many of them.
    """
    inputs, some = _paired(first.graph.inputs, second.graph.inputs, "input")
    outputs, others = _paired(first.graph.outputs, second.graph.outputs, "output")
    return Match(inputs, outputs, (*some, *others))


def _paired(
    ours: Sequence[Value], theirs: Sequence[Value], what: str
) -> tuple[dict[str, str], list[str]]:
    one, other = ([v.name for v in dict.fromkeys(values)] for values in (ours, theirs))
    pairs = {name: name for name in one if name in other}
    rest = [name for name in one if name not in pairs]
    left = [name for name in other if name not in pairs]
    if len(rest) != len(left):
        raise InputError(
            f"the models do not have the same {what}s: {', '.join(one)} and {', '.join(other)}",
            "compare parts of them with --wrt and --of, or export them alike",
        )
    by_place = dict(zip(rest, left, strict=True))
    said = ", ".join(f"{a} is {b}" for a, b in by_place.items())
    return pairs | by_place, [f"{what}s are matched by position: {said}"] if said else []
