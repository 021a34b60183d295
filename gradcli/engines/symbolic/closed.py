"""A tiny network and its derivatives as a closed form: few assignments, then each number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sympy

from gradcli.engines.symbolic.expanded import alive
from gradcli.engines.symbolic.languages import Terms
from gradcli.engines.symbolic.ruled import write
from gradcli.errors import CannotError
from gradcli.problem import Problem

MOST_TERMS = 24
"""Terms of a sum that still takes in what it is made of."""


@dataclass(frozen=True)
class Line:
    """One assignment, in the words of a language.

    Attributes:
        target: What is assigned.
        terms: The right-hand side, cut where a line may end.
    """

    target: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Closed:
    """What a program or a page is made of.

    Attributes:
        steps: Assignments that what follows refers to.
        outputs: One for each number of `of`.
        derivatives: One for each entry of the Jacobian, row by row.
    """

    steps: tuple[Line, ...]
    outputs: tuple[Line, ...]
    derivatives: tuple[Line, ...]


def closed(
    problem: Problem,
    language: str,
    arguments: Iterable[str],
    stem: str,
    outputs: Iterable[str],
    derivatives: Iterable[str],
    *,
    inline: bool,
) -> Closed:
    """A network written out.

    Args:
        problem: What is differentiated.
        language: See `languages.Terms`.
        arguments: A name for each element of each float input of the problem's graph.
        stem: Of the names of intermediate results, which nothing else begins with.
        outputs: What each number of `of` is assigned to.
        derivatives: What each entry of the Jacobian is assigned to, row by row.
        inline: Whether what is used once is put where it is used, as people write.

    Raises:
        CannotError: When something in it has no closed form.
    """
    found = write(problem)
    ys, slopes = found.ys, [e for row in found.jacobian for e in row]
    steps = alive(found.steps, [*ys, *slopes])
    if inline:
        steps, ys, slopes = _inlined(steps, ys, slopes)
    names = dict(zip(found.arguments, arguments, strict=True))
    numbering = "{}_{{{}}}" if language == "latex" else "{}{}"
    names |= {symbol: numbering.format(stem, k + 1) for k, (symbol, _) in enumerate(steps)}

    write_down = Terms(language, names)

    def lines(targets: Iterable[str], expressions: Iterable[Any]) -> tuple[Line, ...]:
        pairs = zip(targets, expressions, strict=True)
        return tuple(Line(target, tuple(write_down(e))) for target, e in pairs)

    try:
        return Closed(
            lines((names[s] for s, _ in steps), (e for _, e in steps)),
            lines(outputs, ys),
            lines(derivatives, slopes),
        )
    except RecursionError as error:
        raise CannotError("the expression is nested too deeply to be written out") from error


def _inlined(
    steps: list[tuple[Any, Any]], ys: list[Any], slopes: list[Any]
) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    """The same with sums and products put where they are used, if that is one place and short."""
    uses = Counter(s for e in (*(e for _, e in steps), *ys, *slopes) for s in e.free_symbols)
    gone: dict[Any, Any] = {}

    def put(e: Any) -> Any:
        found = e.free_symbols & gone.keys()
        return e.xreplace({s: gone[s] for s in found}) if found else e

    kept = []
    for symbol, expression in steps:
        made = put(expression)
        short = len(sympy.Add.make_args(made)) <= MOST_TERMS
        # A product that several entries share is the same derivative in each, and short.
        if short and (uses[symbol] == 1 or _is_scaled(made)) and not made.has(sympy.Piecewise):
            gone[symbol] = made
        else:
            kept.append((symbol, made))
    return kept, list(map(put, ys)), list(map(put, slopes))


def _is_scaled(e: Any) -> bool:
    """Whether it is a number times a power of one symbol, or the same of a function of one."""
    factor, rest = e.as_coeff_Mul()
    return bool(factor != 1 and (rest.is_Symbol or (rest.is_Pow and rest.base.is_Function)))
