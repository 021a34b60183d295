"""A question about a model, completed: names, operator, point and directions."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcli import onnxfile, runtime
from gradcli.errors import UnsupportedError, UsageError
from gradcli.graph import DType, Graph, Node, Shape, Value, burst, is_static, size
from gradcli.interpret import Evaluator
from gradcli.ops import OPS, Table
from gradcli.problem.arrays import complete_directions
from gradcli.problem.finding import Finder
from gradcli.problem.names import asked_parts, check_index, float_tensors, shown
from gradcli.problem.question import Problem, static
from gradcli.transform import Element, cast, depends, expose
from gradcli.transform.choices import Choices
from gradcli.transform.expose import needed_values
from gradcli.transform.norms import join_norms
from gradcli.transform.rewrite import active_values, ending, felt_values
from gradcli.transform.specialise import specialise
from gradcli.transform.straight import straight, straighten
from gradcli.transform.unfold import Folded
from gradcli.transform.unroll import RESOLVE, sequences

if TYPE_CHECKING:
    from gradcli.onnxfile import Model


OPERATORS = ("gradient", "jacobian", "jvp", "vjp")

STRAIGHT_THROUGH = (
    "straight-through estimator: a convention, and not the derivative, which is 0 across rounding;"
    " here rounding, quantising and Casts to integers count as the identity, and as 0 where they"
    " saturate. Finite differences and symbols know nothing of it, and are not held against it"
)

WORD = 8
"""Bytes of an element: all floats are evaluated in float64."""

JACOBIAN_ENTRIES = 1_000_000
JACOBIAN_ROWS = 1000

BLOCKED = (
    "onnxruntime wrote this file for its own machine, in blocked layout: take the original model,"
    " or save the optimised one at level 'extended' or 'basic'"
)


@burst()
def pose(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    *,
    wrt: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    operator: str | None = None,
    dtype: DType | None = None,
    tangents: Mapping[str, np.ndarray] | None = None,
    cotangents: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    notes: Sequence[str] = (),
    table: Table = OPS,
    straight_through: bool = False,
) -> Problem:
    """Complete a question about a model at a point.

    Args:
        model: The file.
        feeds: An array for each of the model's inputs, checked by `check_feeds`.
        wrt: Tensor names; default: the float inputs.
        of: Tensor names or elements such as `y[0,3]`; default: the float outputs.
        operator: Default: one output element gives the gradient; a Jacobian of at most 1e6 entries
            and 1000 rows gives the Jacobian; anything else a vjp with a random cotangent.
        dtype: float32 or float64; default: the file's own.
        tangents: For a jvp; default: random, by the seed, and said in the notes.
        cotangents: For a vjp; likewise.
        threads: For onnxruntime.
        provider: onnxruntime's execution provider.
        seed: Of random directions.
        notes: What the caller already has to say of the point.
        table: Cards.
        straight_through: Whether to ask for the straight-through estimator instead of the
            derivative; the notes say so.

    Raises:
        UsageError: For an unknown name, with near ones.
        InputError: For directions that do not fit.
        UnsupportedError: For operators without a card between `wrt` and `of`: all of them at once.
    """
    graph = model.graph
    wrt, of = shown(model, wrt), shown(model, of)
    tangents, cotangents = (
        d and {model.shown(name): array for name, array in d.items()}
        for d in (tangents, cotangents)
    )
    if given := {v: feeds[v.name] for v in graph.constants if v.name in feeds}:
        graph = replace(graph, constants={**graph.constants, **given})
    wrt_names = float_tensors(graph, wrt)
    elements = asked_parts(graph, of)
    late = depends(graph, wrt_names, table)
    shapes = {name: array.shape for name, array in feeds.items()}
    fixed = {
        v.name: feeds[v.name] for v in graph.inputs if not v.dtype.is_float and v.name in feeds
    }
    tensors = {e.tensor for e in elements}
    folded = Folded()
    whole, choices = decide(graph, shapes, fixed, feeds, wrt_names, tensors, table, folded)
    ends = [Element(name) for name in choices.made]
    # Taken before the shapes found at the point make constants of what hangs on them.
    fork = expose(whole, (), ends, table=table) if ends else None
    _refuse_sequences(whole, tensors)
    _refuse_unknown(whole, set(wrt_names) - late, tensors, table)
    _refuse_vast(whole, needed_values(whole, set(wrt_names) - late, tensors))
    point = _point(model, whole, wrt_names, feeds, table, threads, provider)
    if not all(is_static(v.shape) for v in map(whole.value, wrt_names) if v is not None):
        shapes |= {name: array.shape for name, array in point.items()}
        whole = specialise(whole, shapes, None, table, wrt_names, choices, folded)
    if found := _shapes_at(whole, point, set(wrt_names) - late, elements, table):
        shapes |= found
        whole = specialise(whole, shapes, None, table, wrt_names, choices, folded)
        _refuse_vast(whole, needed_values(whole, set(wrt_names) - late, tensors))
    for element in elements:
        check_index(whole, element)
    part = expose(whole, wrt_names, elements, {name: point[name] for name in late}, table)
    part = join_norms(part)
    names_of = tuple(v.name for v in part.outputs)
    sizes = {v.name: int(np.prod(static(v))) for v in (*part.inputs, *part.outputs)}
    if straight_through:
        part, table = straighten(part, table), straight(table)
        notes = [*notes, STRAIGHT_THROUGH]
    said = [*notes, *_unzipped(model), *_in_full(model), *_ways(choices)]
    said += _without_effect(part, wrt_names, table)
    if operator is not None and operator not in OPERATORS:
        raise UsageError(f"there is no operator {operator!r}", f"choose {', '.join(OPERATORS)}")
    operator = operator or _default_operator(
        sum(sizes[n] for n in names_of), sum(sizes[n] for n in wrt_names), tangents, cotangents
    )
    rows = sum(sizes[n] for n in names_of)
    if operator == "gradient" and rows != 1:
        raise UsageError(
            f"a gradient is of one number, and {', '.join(names_of)} has {rows}",
            f"choose one element with --of '{names_of[0]}[0,...]', or --operator jacobian or vjp",
        )
    rng = np.random.default_rng(seed)
    given_dots = complete_directions(
        part.inputs, wrt_names, tangents, "tangent", operator == "jvp", rng, said
    )
    given_bars = complete_directions(
        part.outputs, names_of, cotangents, "cotangent", operator == "vjp", rng, said
    )
    if operator == "gradient":
        given_bars = {
            name: np.ones(static(v)) for name, v in zip(names_of, part.outputs, strict=True)
        }
    return Problem(
        model,
        part,
        tuple(wrt_names),
        names_of,
        operator,
        {v.name: point[v.name] for v in part.inputs},
        given_dots,
        given_bars,
        dtype or _own_dtype(part),
        threads,
        provider,
        seed,
        dict(feeds),
        tuple(replace(e, label=name) for e, name in zip(elements, names_of, strict=True)),
        tuple(said),
        table,
        fork,
        choices.made,
        straight_through,
        folded=folded,
    )


def _own_dtype(graph: Graph) -> DType:
    """The width of the file: that of its float inputs, the widest when they differ.

    bfloat16 and narrower, in which runtimes store more than they compute, count as float32.
    """
    widths = {v.dtype for v in (*graph.inputs, *graph.outputs)}
    computed = (DType.FLOAT64, DType.FLOAT32, DType.FLOAT16)
    return next((d for d in computed if d in widths), DType.FLOAT32)


def _unzipped(model: Model) -> list[str]:
    """A note on what the file gives as maps."""
    names = ", ".join(model.unzipped)
    return [f"{names}: the tensor of probabilities, without its ZipMap"] if names else []


def _in_full(model: Model) -> list[str]:
    """A note on products whose operand a kernel may round."""
    found = onnxfile.rounded_products(model)
    listed = ", ".join(map(repr, found[:3])) + (f" and {len(found) - 3} more" if found[3:] else "")
    return (
        [f"node {listed} (MatMulNBits): accuracy_level is set aside, nothing is rounded to int8"]
        if found
        else []
    )


def _without_effect(graph: Graph, wrt: Sequence[str], table: Table) -> list[str]:
    """A note on those of `wrt` from which no derivative reaches the outputs."""
    felt, names = felt_values(graph, graph.outputs, table), set(wrt)
    none = [v.name for v in graph.inputs if v.name in names and v not in felt]
    if not none:
        return []
    of = ", ".join(v.name for v in graph.outputs)
    why = "there is no way between them, or only one by steps and indices"
    ends = _ends(graph, [v for v in graph.inputs if v.name in none], table)
    return [f"the derivative of {of} with respect to {', '.join(none)} is 0: {why}{ends}"]


def _ends(graph: Graph, wrt: Sequence[Value], table: Table) -> str:
    """The first nodes at which a derivative ends, and why."""
    active = active_values(graph, wrt, table)
    found = [
        f"{node.name!r} ({node.op}: {end[1]})"
        for node in graph.nodes
        if (end := ending(node, active, table.get(node.key))) is not None
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"; it ends at node {', '.join(found[:3])}{more}" if found else ""


def _default_operator(rows: int, columns: int, tangents: object, cotangents: object) -> str:
    if tangents is not None:
        return "jvp"
    if cotangents is not None:
        return "vjp"
    if rows == 1:
        return "gradient"
    if rows <= JACOBIAN_ROWS and rows * columns <= JACOBIAN_ENTRIES:
        return "jacobian"
    return "vjp"


def _refuse_unknown(graph: Graph, cut: set[str], of: set[str], table: Table) -> None:
    """All nodes without a card that are needed for `of`, in one error."""
    needed = needed_values(graph, cut, of)
    unknown: dict[str, list[str]] = {}
    for node in graph.nodes:
        if any(v in needed for v in node.makes()) and not _has_card(node, table):
            unknown.setdefault(node.key, []).append(node.name)
    if unknown:
        listed = "; ".join(
            f"{key} (node {', '.join(map(repr, names))}{_why(key, table)})"
            for key, names in sorted(unknown.items())
        )
        new = any(key not in table for key in unknown)
        what = "gradcli does not know these operators yet" if new else "there is no derivative of"
        raise UnsupportedError(
            f"{what}: {listed}",
            BLOCKED
            if any(key.startswith("com.microsoft.nchwc::") for key in unknown)
            else "differentiate a part of the model without them, with --wrt and --of",
        )


def _refuse_vast(graph: Graph, needed: Collection[Value]) -> None:
    """The first node with a result that memory does not hold: a few bytes of a file can ask it."""
    for node in graph.nodes:
        for value in node.makes():
            if value not in needed or value.shape is None or not is_static(value.shape):
                continue
            if size(value.shape) * WORD > machine_memory():
                raise UnsupportedError(
                    f"node {node.name!r} ({node.key}) makes a tensor of shape {list(value.shape)},"
                    " which does not fit into memory",
                    "take smaller inputs, or a machine with more memory, if you trust the model",
                )


@cache
def machine_memory() -> int:
    """Bytes of this machine's memory; a guess where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 36


def _why(key: str, table: Table) -> str:
    """Why an operator is opaque."""
    if key in RESOLVE:
        return ": what it hangs on cannot be computed"
    card = table.get(key)
    return "" if card is None else f": {card.reason}"


def decide(
    graph: Graph,
    shapes: Mapping[str, Shape],
    fixed: Mapping[str, np.ndarray],
    feeds: Mapping[str, np.ndarray],
    keep: Collection[str],
    of: set[str],
    table: Table,
    folded: Folded | None = None,
) -> tuple[Graph, Choices]:
    """The graph at the point, its control flow as it goes there, and the choices that it made.

    Only those that `of` needs, and that do not follow from shapes and constants.
    """
    needed = frozenset(v.name for v in needed_values(graph, set(), of))
    choices = Choices(find=Finder(feeds, table), wanted=needed)
    whole = specialise(graph, shapes, fixed, table, keep, choices, folded)
    choices.find = None  # which knows this one graph
    return whole, choices


def _ways(choices: Choices) -> list[str]:
    """A note on each node of the outermost graph that chose, and on how many others did."""
    notes = [
        f"node {way.node!r} ({way.op}) {way.what} at this point; the derivative is that of what it"
        " does here"
        for way in choices.ways
        if not way.inner
    ]
    inner = len(choices.ways) - len(notes)
    return notes + (
        [f"so do {inner} inside bodies: each goes the way it goes here"] if inner else []
    )


def _refuse_sequences(graph: Graph, names: Collection[str]) -> None:
    """Refuse what is asked of a tensor where there is a sequence or an optional value."""
    no_tensors = {v.name for v in sequences(graph)}
    for name in names:
        if name in no_tensors:
            raise UnsupportedError(
                f"{name!r} is a sequence or an optional value, and not a tensor",
                "ask for a tensor that is taken from it, with --of",
            )


def _has_card(node: Node, table: Table) -> bool:
    return node.key in table and table[node.key].impl is not None


def _point(
    model: Model,
    graph: Graph,
    wrt: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    table: Table,
    threads: int,
    provider: str,
) -> dict[str, np.ndarray]:
    """The value of every tensor that may become an input.

    A value inside the graph is the interpreter's, or onnxruntime's where it takes an operator that
    has no card.
    """
    point = dict(feeds)
    sought = set(wrt) - feeds.keys()
    inner = {v.name: v for v in graph.values() if v.name in sought}
    for value in [v for v in inner.values() if v in graph.constants]:
        point[value.name] = graph.constants[inner.pop(value.name)]
    if not inner:
        return point
    before = expose(graph, (), [Element(name) for name in inner], table=table)
    if all(_has_card(node, table) for node in before.nodes):
        values = Evaluator(cast(before, DType.FLOAT64, table), table=table).run(point)
    else:
        session = runtime.prepare(
            model, threads=threads, provider=provider, extra_outputs=sorted(inner)
        )
        values = session.run(feeds)
    for name, value in inner.items():
        point[name] = np.asarray(values[name]).astype(value.dtype.np)
    return point


def _shapes_at(
    graph: Graph,
    point: Mapping[str, np.ndarray],
    cut: set[str],
    elements: Sequence[Element],
    table: Table,
) -> dict[str, tuple[int, ...]]:
    """The shapes that hang on the values of floats, such as the depth of a OneHot, at the point."""
    needed = needed_values(graph, cut, {e.tensor for e in elements})
    if not (loose := [v.name for v in needed if not is_static(v.shape)]):
        return {}
    fed = [v.name for v in graph.values() if v.name in cut]
    before = expose(graph, fed, [Element(name) for name in loose], table=table)
    values = Evaluator(cast(before, DType.FLOAT64, table), table=table).run(point)
    return {name: np.shape(values[name]) for name in loose}
