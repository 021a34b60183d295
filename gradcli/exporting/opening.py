"""The derivative with as many dimensions open as its operators allow, and why not more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gradcli.errors import CannotError, GradcliError, OutOfTimeError, UnsupportedError, UsageError
from gradcli.exporting.derivative import Made, declared, derivative_graph
from gradcli.graph import Graph, Shape, is_static
from gradcli.problem import Problem
from gradcli.problem.posing import decide
from gradcli.transform import depends, expose, tune
from gradcli.transform.norms import join_norms
from gradcli.transform.straight import straighten

MANY = 4
"""Open dimensions up to which each is tried to be the only one that is fixed."""

FAILURES = (GradcliError, AssertionError, IndexError, TypeError, ValueError)
"""How a rule that must know a dimension says so: most take it for a number."""


@dataclass(frozen=True)
class Way:
    """What stays open.

    Attributes:
        symbols: Names of the dimensions of inputs that do.
        integers: Whether inputs that are no floats stay inputs; else they are constants, as they
            are at the point.
    """

    symbols: frozenset[str]
    integers: bool


@dataclass(frozen=True)
class Opened:
    """A derivative graph, and what it hangs on.

    Attributes:
        made: The graph.
        way: What stayed open.
        fixed: For each dimension that did not, its size at the point.
        reason: Why it did not: the node and what it said; empty where nothing had to be fixed.
        choices: Whether control flow goes its ways as it does at the point.
        many: Whether what is differentiated may have more than one element in each tensor, of an
            open batch.
    """

    made: Made
    way: Way
    fixed: dict[str, int]
    reason: str
    choices: bool
    many: bool


def _many(primal: Graph) -> bool:
    return any(v.shape is None or not is_static(v.shape) for v in primal.outputs)


def symbols_of(problem: Problem) -> dict[str, int]:
    """The open dimensions of the model's inputs, with their sizes at the point."""
    assert problem.model is not None
    found: dict[str, int] = {}
    for value in problem.model.graph.inputs:
        if value.name in problem.feeds:
            sizes = problem.feeds[value.name].shape
            found |= {
                d: n for d, n in zip(value.shape or (), sizes, strict=False) if isinstance(d, str)
            }
    return found


def opened(
    problem: Problem,
    operator: str,
    *,
    with_primal: bool = False,
    per_row: bool = False,
    static: bool = False,
    tuned: bool = False,
) -> Iterator[Opened]:
    """Derivative graphs of a problem's model, the one with most dimensions open first.

    Args:
        problem: The question, at a point.
        operator: See `derivative_graph`.
        with_primal: Likewise.
        per_row: Likewise.
        static: Whether all dimensions are fixed to the point's from the first.
        tuned: Whether to write it in the formulations that onnxruntime runs fastest.

    Raises:
        UnsupportedError: When none can be made, not even with all dimensions fixed.
        UsageError: When one of `wrt` is computed from another.
    """
    model = problem.model
    assert model is not None
    if late := depends(model.graph, problem.wrt, problem.table):
        raise UsageError(
            f"{', '.join(sorted(late))} is computed from another tensor of --wrt, and a saved"
            " derivative can take one of them as its input",
            "export a model for each of them",
        )
    sizes, reason = symbols_of(problem), ""
    ways = list(_ways(problem, static))
    failure: Exception | None = None
    for way in ways:
        try:
            primal, chose = _open_primal(problem, way, sizes)
            _check_gradient(primal, operator, problem.of)
            made = derivative_graph(
                primal,
                operator,
                problem.wrt,
                problem.of,
                problem.table,
                with_primal=with_primal,
                per_row=per_row,
            )
            if tuned:
                made = replace(made, graph=tune(made.graph, problem.table))
        except (OutOfTimeError, UsageError):
            raise
        except FAILURES as error:
            reason, failure = reason or why(error), error
            continue
        fixed = {d: n for d, n in sizes.items() if d not in way.symbols}
        yield Opened(made, way, fixed, reason, chose, _many(primal))
        reason = reason or "at another size it is another function"
    if isinstance(failure, GradcliError):
        raise failure
    if failure is not None:
        raise UnsupportedError(f"the derivative cannot be written: {why(failure)}") from failure


def why(error: Exception) -> str:
    """What an error says, with the node that it met."""
    said = error.message if isinstance(error, GradcliError) else str(error) or type(error).__name__
    node = next(iter(getattr(error, "__notes__", ())), "")
    return said if not node or node in said else f"{node}: {said}"


def _ways(problem: Problem, static: bool) -> Iterator[Way]:
    every = frozenset() if static else frozenset(symbols_of(problem))
    leading = every & frozenset(_leading(problem))
    others = [every - {symbol} for symbol in every] if len(every) <= MANY else []
    tried = dict.fromkeys((every, *sorted(others, key=sorted), leading))
    subsets: list[frozenset[str]] = [*filter(None, tried), frozenset()]
    assert problem.model is not None
    integers = [v for v in problem.model.graph.inputs if not v.dtype.is_float]
    for free in (True, False) if integers else (True,):
        for subset in subsets:
            yield Way(subset, free)


def _leading(problem: Problem) -> Iterator[str]:
    """Symbols of first axes: of batches."""
    assert problem.model is not None
    for value in problem.model.graph.inputs:
        if value.shape and isinstance(value.shape[0], str):
            yield value.shape[0]


def _open_primal(problem: Problem, way: Way, sizes: dict[str, int]) -> tuple[Graph, bool]:
    """The primal from `wrt` to `of`; and whether control flow was decided at the point."""
    model, table, feeds = problem.model, problem.table, problem.feeds
    assert model is not None
    graph = model.graph
    if given := {v: feeds[v.name] for v in graph.constants if v.name in feeds}:
        graph = replace(graph, constants={**graph.constants, **given})
    shapes: dict[str, Shape] = {
        v.name: feeds[v.name].shape
        if v.shape is None
        else tuple(sizes[d] if isinstance(d, str) and d not in way.symbols else d for d in v.shape)
        for v in graph.inputs
        if v.name in feeds
    }
    fixed = (
        {}
        if way.integers
        else {
            v.name: feeds[v.name] for v in graph.inputs if not v.dtype.is_float and v.name in feeds
        }
    )
    tensors = {e.tensor for e in problem.elements}
    whole, choices = decide(graph, shapes, fixed, feeds, problem.wrt, tensors, table)
    part = join_norms(expose(whole, problem.wrt, problem.elements, {}, table))
    part = declared(part, _said(problem, way))
    if unknown := [n for n in part.nodes if n.key not in table]:
        raise CannotError(f"node {unknown[0].name!r} ({unknown[0].key}) cannot be written out")
    if problem.straight_through:
        part = straighten(part, table)
    return replace(problem, graph=part).own, bool(choices.ways)


def _said(problem: Problem, way: Way) -> dict[str, Shape]:
    """The shapes that the model declares of what is differentiated, where they fit the point."""
    assert problem.model is not None
    sizes, found = symbols_of(problem), {}
    for element in problem.elements:
        value = problem.model.graph.value(element.tensor)
        shape = None if value is None or element.index else value.shape
        if shape is None or any(isinstance(d, str) and d not in way.symbols for d in shape):
            continue
        if tuple(sizes[d] if isinstance(d, str) else d for d in shape) == problem.shape(
            element.name
        ):
            found[element.name] = shape
    return found


def _check_gradient(primal: Graph, operator: str, of: Sequence[str]) -> None:
    """A gradient is of one number, or of one for each row of an open batch.

    Raises:
        UsageError: When there are more.
    """
    if operator != "gradient":
        return
    count = 0
    for value in primal.outputs:
        shape = value.shape or ()
        rest = shape[1:] if shape and isinstance(shape[0], str) else shape
        count += 1 if all(d == 1 for d in rest) else 2
    if count != 1:
        more = "has more" if len(of) == 1 else "have more"
        raise UsageError(
            f"a gradient is of one number, and {', '.join(of)} {more}",
            f"choose one element with --of '{of[0]}[0,...]' (in every row: '{of[0]}[:,0]'), or"
            " --operator jacobian or vjp",
        )
