"""Which input and output of one model is which of another's: by name, else by shape or position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        notes: What was matched by position, and what only one of them has.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    notes: tuple[str, ...]


def matched(first: Model, second: Model) -> Match:
    """Match the inputs and outputs of two models; outputs that only one has are left out.

    Raises:
        InputError: When they do not have as many inputs, no output in common, or inputs of other
            shapes.
    """
    inputs, some = _paired(first.graph.inputs, second.graph.inputs, "input")
    outputs, others = _paired(first.graph.outputs, second.graph.outputs, "output")
    theirs = {v.name: v for v in second.graph.inputs}
    for value in first.graph.inputs:
        other = theirs[inputs[value.name]]
        if not _fits(value, other):
            name = "" if other.name == value.name else f" as {other.name!r}"
            raise InputError(
                f"input {value.name!r} is {_kind(value)} in the first model, and {_kind(other)} in"
                f" the second{name}",
                "give models that take the same input: export both with axes in one order",
            )
    return Match(inputs, outputs, (*some, *others))


def _kind(value: Value) -> str:
    dims = "" if value.shape is None else ",".join(map(str, value.shape))
    return f"{value.dtype.value}[{dims}]"


def _fits(one: Value, other: Value) -> bool:
    """Whether what the one holds can be held by the other, in whatever width."""
    if (one.dtype.is_float, one.dtype.is_integer) != (other.dtype.is_float, other.dtype.is_integer):
        return False
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or isinstance(a, str) or isinstance(b, str)
        for a, b in zip(one.shape, other.shape, strict=True)
    )


def _paired(
    ours: Sequence[Value], theirs: Sequence[Value], what: str
) -> tuple[dict[str, str], list[str]]:
    one, other = ({v.name: v for v in values} for values in (ours, theirs))
    pairs = {name: name for name in one if name in other}
    rest = [v for name, v in one.items() if name not in pairs]
    left = [v for name, v in other.items() if name not in pairs]
    if len(rest) != len(left):
        if what == "output" and pairs:
            return pairs, list(_alone(rest, left))
        raise InputError(
            f"the models do not have the same {what}s: {', '.join(one)} in the first,"
            f" {', '.join(other)} in the second",
            f"export them with the same {what}s",
        )
    by_place = {a.name: b.name for a, b in zip(rest, left, strict=True)}
    how = "position"
    if not all(map(_fits, rest, left)) and (by_shape := _only(rest, left)):
        by_place, how = by_shape, "shape"
    said = ", ".join(f"{a} is {b}" for a, b in by_place.items())
    wrong = f"; where that is wrong, give {what}s of the same names" if len(rest) > 1 else ""
    return pairs | by_place, [f"{what}s are matched by {how}: {said}{wrong}"] if said else []


def _alone(rest: Sequence[Value], left: Sequence[Value]) -> Iterator[str]:
    """Notes on outputs that only one model has."""
    for which, some in (("first", rest), ("second", left)):
        if some:
            yield f"left out, as only the {which} model has it: {', '.join(v.name for v in some)}"


def _only(rest: Sequence[Value], left: Sequence[Value]) -> dict[str, str]:
    """The pairs where each fits only one; none where one fits more or none."""
    fits = {v.name: [other.name for other in left if _fits(v, other)] for v in rest}
    found = {name: some[0] for name, some in fits.items() if len(some) == 1}
    return found if len(set(found.values())) == len(rest) else {}
