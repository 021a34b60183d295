"""Control flow and sequences, written out as plain nodes where what they hang on is known.

Each function here takes up one operator. It says whether it could: where a choice is not known, the
node stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from gradcli.errors import GradcliError
from gradcli.graph import Graph, Node, Value, Var
from gradcli.transform.choices import number
from gradcli.transform.specialiser import ABSENT, Resolve, Specialiser

_WIDE = 256


# ---- branches and loops --------------------------------------------------------------------------


def _if(s: Specialiser, node: Node) -> bool:
    """The branch that is taken."""
    (condition,) = s.operands(node)
    if condition is None or (choice := s.choose(condition)) is None:
        return False
    holds = bool(number(choice))
    if condition.const is None:
        s.went(node, f"takes its {'then' if holds else 'else'} branch")
    s.stand(node, s.write(node, node.attrs["then_branch" if holds else "else_branch"], []))
    return True


def _loop(s: Specialiser, node: Node) -> bool:
    """Trip after trip, until the count is full or the condition fails."""
    body: Graph = node.attrs["body"]
    most, condition, *carried = [*s.operands(node), None, None][: max(2, len(node.inputs))]
    full = None
    if most is not None:
        if (choice := s.choose(most)) is None:
            return False
        full = max(0, number(choice))
    free = any(x is not None and x.const is None for x in (most, condition))
    stacks: list[list[Var]] = [[] for _ in body.outputs[1 + len(carried) :]]
    step, held = 0, len(s.held)
    while full is None or step < full:
        if condition is not None:
            if (choice := s.choose(condition)) is None:
                return False
            if not number(choice):
                break
            free |= condition.const is None
        if step == 1 and full is not None and (condition is None or condition.const is not None):
            s.choices.foresee(1 + len(body.nodes), full, node)
        given = [_scalar(s, body.inputs[0], step), _scalar(s, body.inputs[1], True), *carried]
        condition, *results = s.write(node, body, given, step, full)
        parts = results[len(carried) :]
        carried = [*results[: len(carried)]]
        for stack, part in zip(stacks, parts, strict=True):
            stack.append(part)
        _forget(s, held, carried)
        step += 1
    if free:
        s.went(node, f"makes {step} trip{'' if step == 1 else 's'}")
    if not step and stacks:
        given = [_scalar(s, body.inputs[0], 0), _scalar(s, body.inputs[1], True), *carried]
        s.stand(node, [*carried, *_nothing(s, node, body, given, [0] * len(stacks))])
    else:
        s.stand(node, [*carried, *(_joined(s, node, stack, 0, new=True) for stack in stacks)])
    return True


def _taken(s: Specialiser, node: Node) -> bool:
    """The element that one trip takes of what the loop walks along.

    All of them together are one Split, whose transpose is one Concat; the transpose of a Gather in
    each trip is a tensor of the whole size in each trip.
    """
    trips = s.walked.get(node.inputs[0]) if node.inputs[0] is not None else None
    x, index = s.operands(node)
    if trips is None or x is None or x.shape is None or index is None or index.shape != ():
        return False
    axis = int(node.attrs["axis"])
    n, choice = x.shape[axis], index.const
    if choice is None or not isinstance(n, int) or not 1 < n <= 2 * trips:
        return False
    at = _within(int(choice), -n, n - 1)
    if (x.value, axis) not in s.columns:
        s.columns[x.value, axis] = _slices(s, node, x, axis, n)
    s.stand(node, [s.columns[x.value, axis][at]])
    return True


def _scalar(s: Specialiser, like: Value, value: int) -> Var:
    """A trip's number or its condition; some exporters declare them to be of one dimension."""
    shape = (1,) if like.shape is not None and len(like.shape) == 1 else ()
    return s.b.constant(np.full(shape, value, bool if value is True else np.int64))


def _forget(s: Specialiser, before: int, carried: Sequence[Var | None]) -> None:
    """Drop what sequences of finished steps held, but for those that are handed on."""
    if len(s.held) > before:
        kept = {x.value for x in carried if x is not None}
        for value in list(s.held)[before:]:
            if value not in kept:
                del s.held[value]


def _scan(s: Specialiser, node: Node) -> bool:
    """Step after step along the scanned axes."""
    body: Graph = node.attrs["body"]
    given = [x for x in s.operands(node) if x is not None]
    scanned = int(node.attrs["num_scan_inputs"])
    carried, xs = given[: len(given) - scanned], given[len(given) - scanned :]
    outs = len(body.outputs) - len(carried)
    axes, back = (
        _each(node, "scan_input_axes", scanned),
        _each(node, "scan_input_directions", scanned),
    )
    out_axes, out_back = (
        _each(node, "scan_output_axes", outs),
        _each(node, "scan_output_directions", outs),
    )
    lengths = [_length(s, node, x, axis) for x, axis in zip(xs, axes, strict=True)]
    steps = lengths[0]
    if steps is None or None in lengths:
        return False
    s.choices.foresee(1 + len(body.nodes), steps, node)
    if any(n != steps for n in lengths):
        raise ValueError(f"the scanned axes have {lengths} elements, which must be equal")
    if not steps:
        slots = [_slot(s, x, axis) for x, axis in zip(xs, axes, strict=True)]
        s.stand(node, [*carried, *_nothing(s, node, body, [*carried, *slots], out_axes)])
        return True
    columns = [
        _slices(s, node, x, axis, steps)[:: -1 if reverse else 1]
        for x, axis, reverse in zip(xs, axes, back, strict=True)
    ]
    stacks: list[list[Var]] = [[] for _ in range(outs)]
    for step in range(steps):
        results = s.write(node, body, [*carried, *(column[step] for column in columns)], step)
        carried, parts = results[: len(carried)], results[len(carried) :]
        for stack, part in zip(stacks, parts, strict=True):
            stack.append(part)
    joined = [
        _joined(s, node, stack[:: -1 if reverse else 1], axis, new=True)
        for stack, axis, reverse in zip(stacks, out_axes, out_back, strict=True)
    ]
    s.stand(node, [*carried, *joined])
    return True


def _each(node: Node, name: str, count: int) -> list[int]:
    given = node.attrs.get(name)
    if given is None:
        return [0] * count
    if len(given) != count:
        raise ValueError(f"{name} has {len(given)} entries, not {count}")
    return [int(a) for a in given]


def _length(s: Specialiser, node: Node, x: Var, axis: int) -> int | None:
    """How long an axis is, if need be at the point."""
    if x.shape is not None and isinstance(n := x.shape[axis], int):
        return n
    shape = s.b.op("Shape", x)
    with s.b.serving(node.name):
        size = s.b.op("Gather", shape, s.b.ints([axis]), axis=0, name=f"{node.name}/length")
    choice = s.choose(size)
    if choice is not None:
        s.went(node, f"runs over {number(choice)} elements")
    return None if choice is None else number(choice)


def _slices(s: Specialiser, node: Node, x: Var, axis: int, steps: int) -> list[Var]:
    """The elements along an axis: by one Split, whose transpose is one Concat."""
    return [
        s.emit(node, "Squeeze", part, s.b.ints([axis]))[0]
        for part in _parts(s, node, x, axis, [1] * steps)
    ]


def _parts(s: Specialiser, node: Node, x: Var, axis: int, sizes: Sequence[int]) -> tuple[Var, ...]:
    s.choices.count(len(sizes), node)
    return s.emit(node, "Split", x, s.b.ints(sizes), outputs=len(sizes), axis=axis)


def _joined(s: Specialiser, node: Node, parts: Sequence[Var], axis: int, *, new: bool) -> Var:
    """Tensors one after the other, along an axis that they have or along a new one."""
    if new:
        parts = [s.emit(node, "Unsqueeze", part, s.b.ints([axis]))[0] for part in parts]
    if new and len(parts) == 1:
        return parts[0]
    return s.emit(node, "Concat", *parts, axis=axis)[0]


def _slot(s: Specialiser, x: Var, axis: int) -> Var:
    """What one element along an axis of length 0 would be: a value that nothing makes."""
    shape = x.shape
    if shape is not None:
        at = axis % len(shape)
        shape = (*shape[:at], *shape[at + 1 :])
    return Var(s.b, Value(s.b.name("element"), x.dtype, shape))


def _nothing(
    s: Specialiser, node: Node, body: Graph, given: Sequence[Var | None], axes: Sequence[int]
) -> Iterator[Var]:
    """What no steps leave in a scan output: a tensor without elements, shaped as one step would.

    A size that is not known is 0, as in onnxruntime.
    """
    start, find = len(s.b.nodes), s.choices.find
    s.choices.find = None
    types = [(v.dtype, v.shape) for v in body.outputs[len(body.outputs) - len(axes) :]]
    with contextlib.suppress(GradcliError):  # what never runs need not be able to
        results = s.write(node, body, given)
        types = [(x.dtype, x.shape) for x in results[len(results) - len(axes) :]]
    s.choices.find = find
    del s.b.nodes[start:]
    for (dtype, shape), axis in zip(types, axes, strict=True):
        sizes = [d if isinstance(d, int) else 0 for d in shape or ()]
        sizes.insert(axis + len(sizes) + 1 if axis < 0 else axis, 0)
        yield s.b.constant(np.zeros(sizes, dtype.np), dtype, name=f"{node.name}/nothing")


def _sequence_map(s: Specialiser, node: Node) -> bool:
    """A body on each element of a sequence, and of further ones beside it."""
    body: Graph = node.attrs["body"]
    given = [x for x in s.operands(node) if x is not None]
    first = s.held.get(given[0].value)
    if not isinstance(first, tuple):
        return False
    made: list[list[Var]] = [[] for _ in body.outputs]
    for step in range(len(first)):
        at = []
        for x in given:
            held = s.held.get(x.value)
            at.append(held[step] if isinstance(held, tuple) else x)
        for stack, y in zip(made, s.write(node, body, at, step), strict=True):
            stack.append(y)
    s.hold(node, ())
    for value, stack in zip(node.outputs, made, strict=False):
        if value is not None:
            s.held[s.env[value].value] = tuple(stack)
    return True


# ---- sequences -----------------------------------------------------------------------------------


def _tensors(s: Specialiser, node: Node) -> tuple[Var, ...] | None:
    """What a node's first operand, a sequence, holds."""
    x = s.operands(node)[0]
    held = None if x is None else s.held.get(x.value)
    if held == ABSENT:
        raise ValueError("the sequence is an optional one, and empty")
    return held if isinstance(held, tuple) else None


def _position(s: Specialiser, node: Node, place: int, default: int) -> int | None:
    """A position, from the end where it is negative, as a node's operand says."""
    x = s.operands(node)[place] if place < len(node.inputs) else None
    if x is None:
        return default
    if (choice := s.choose(x)) is None:
        return None
    at = number(choice)
    if x.const is None:
        s.went(node, f"is at position {at}")
    return at


def _within(at: int, low: int, high: int) -> int:
    if not low <= at <= high:
        raise ValueError(f"position {at} is outside {low} to {high}")
    return at


def _empty(s: Specialiser, node: Node) -> bool:
    s.hold(node, ())
    return True


def _construct(s: Specialiser, node: Node) -> bool:
    s.hold(node, tuple(x for x in s.operands(node) if x is not None))
    return True


def _at(s: Specialiser, node: Node) -> bool:
    held = _tensors(s, node)
    if held is None or (at := _position(s, node, 1, 0)) is None:
        return False
    s.stand(node, [held[_within(at, -len(held), len(held) - 1)]])
    return True


def _insert(s: Specialiser, node: Node) -> bool:
    held, new = _tensors(s, node), s.operands(node)[1]
    if held is None or new is None:
        return False
    n = len(held)
    if (at := _position(s, node, 2, n)) is None:
        return False
    at = _within(at, -n, n) % n if at < 0 else _within(at, -n, n)
    s.choices.count(n // _WIDE, node)
    s.hold(node, (*held[:at], new, *held[at:]))
    return True


def _erase(s: Specialiser, node: Node) -> bool:
    held = _tensors(s, node)
    if held is None or (at := _position(s, node, 1, -1)) is None:
        return False
    n = len(held)
    at = _within(at, -n, n - 1) % n
    s.choices.count(n // _WIDE, node)
    s.hold(node, held[:at] + held[at + 1 :])
    return True


def _count(s: Specialiser, node: Node) -> bool:
    held = _tensors(s, node)
    if held is None:
        return False
    _becomes(s, node, np.array(len(held), np.int64))
    return True


def _becomes(s: Specialiser, node: Node, array: np.ndarray) -> None:
    s.become(node, [None if v is None else s.constant(v.name, array) for v in node.outputs])


def _concat(s: Specialiser, node: Node) -> bool:
    held = _tensors(s, node)
    if held is None:
        return False
    if not held:
        raise ValueError("an empty sequence has nothing to join")
    new = bool(node.attrs.get("new_axis"))
    s.stand(node, [_joined(s, node, held, int(node.attrs["axis"]), new=new)])
    return True


def _split(s: Specialiser, node: Node) -> bool:
    """Parts of given sizes, of one size and a rest, or single elements, with or without an axis."""
    x, how = [*s.operands(node), None][:2]
    axis = int(node.attrs.get("axis") or 0)
    if x is None or (n := _length(s, node, x, axis)) is None:
        return False
    choice = None if how is None else s.choose(how)
    if how is not None and choice is None:
        return False
    # The standard heeds keepdims only without sizes; torch writes a size of 1 for what it takes
    # apart, and onnxruntime drops the axis then.
    if choice is None or (choice == 1 and not node.attrs.get("keepdims", 1)):
        alone = not node.attrs.get("keepdims", 1)
        s.choices.foresee(1 + alone, n, node)
        s.hold(node, tuple((_slices if alone else _singles)(s, node, x, axis, n) if n else ()))
        return True
    if isinstance(choice, int):
        if choice < 1:
            raise ValueError(f"parts of size {choice}")
        s.choices.foresee(1, n // choice, node)
        choice = tuple(min(choice, n - k) for k in range(0, n, choice))
    if sum(choice) != n or min(choice, default=0) < 0:
        raise ValueError(f"{n} elements do not fall into parts of {choice}")
    s.hold(node, _parts(s, node, x, axis, choice) if choice else ())
    return True


def _singles(s: Specialiser, node: Node, x: Var, axis: int, count: int) -> tuple[Var, ...]:
    return _parts(s, node, x, axis, [1] * count)


# ---- optional values -----------------------------------------------------------------------------


def _optional(s: Specialiser, node: Node) -> bool:
    x = next(iter(s.operands(node)), None)
    if x is None:
        s.hold(node, ABSENT)
    else:
        s.stand(node, [x])
    return True


def _has(s: Specialiser, node: Node) -> bool:
    x = next(iter(s.operands(node)), None)
    if x is not None and x.value in s.open:
        return False
    _becomes(s, node, np.array(x is not None and s.held.get(x.value) != ABSENT))
    return True


def _element(s: Specialiser, node: Node) -> bool:
    (x,) = s.operands(node)
    if x is None or x.value in s.open:
        return False
    if s.held.get(x.value) == ABSENT:
        raise ValueError("the optional value is empty")
    s.stand(node, [x])
    return True


RESOLVE: Mapping[str, Resolve] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _count,
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _optional,
    "OptionalHasElement": _has,
    "OptionalGetElement": _element,
}

WALKED: Mapping[str, Resolve] = {"Gather": _taken}
"""How others are, within the trips of a loop."""

MAKES_SEQUENCES = frozenset(
    (
        "SequenceMap",
        "SequenceEmpty",
        "SequenceConstruct",
        "SequenceInsert",
        "SequenceErase",
        "SplitToSequence",
        "Optional",
    )
)
"""Operators whose nodes remain, dead, where all is decided: what they make is no tensor."""


def sequences(graph: Graph, given: Collection[Value] = ()) -> set[Value]:
    """The values of a graph that are sequences or optional values, and no tensors.

    Args:
        graph: The graph, or a body.
        given: Those of a body's inputs and of the values around it that are.
    """
    found = set(given)
    for node in graph.nodes:
        handed_on = node.key == "Identity" and node.inputs[0] in found
        if handed_on or node.key in MAKES_SEQUENCES:
            found.update(node.makes())
        elif node.key in ("If", "Loop"):
            found.update(_made_by_body(node, found))
    return found


def _made_by_body(node: Node, found: set[Value]) -> Iterator[Value]:
    body, first = node.subgraphs()[0], int(node.key == "Loop")
    carried = zip(body.inputs[2:], node.inputs[2:], strict=False)
    inner = sequences(body, found | {into for into, x in carried if x in found})
    for value, result in zip(node.outputs, body.outputs[first:], strict=False):
        if value is not None and result in inner:
            yield value
