"""Symbolic differentiation of a tiny network as a whole, compiled to one function.

The network becomes assignments, each a short expression of inputs and of what was assigned before:
shared subexpressions are shared before anything is differentiated, not looked for afterwards. SymPy
differentiates each right-hand side; the chain rule runs over the assignments, backwards where
there are fewer outputs than inputs; what comes of it are assignments again, compiled together.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from gradcli import deadline
from gradcli.engines.base import Arrays, Images
from gradcli.engines.symbolic.code import kept, on_floats
from gradcli.engines.symbolic.local import partial
from gradcli.engines.symbolic.size import Size
from gradcli.errors import CannotError
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, Numbers
from gradcli.numbers.symbol import Symbol
from gradcli.ops import Card, Table
from gradcli.problem import Problem

# ---- assignments ---------------------------------------------------------------------------------


class Lines:
    """Assignments in order, each expression once."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, Any]] = []
        self._known: dict[Any, Any] = {}
        self._copies: dict[Any, Any] = {}

    def name(self, expression: Any) -> Any:
        """A symbol for an expression; a symbol, a number or a symbol's negative stays as it is."""
        factor, rest = expression.as_coeff_Mul()
        if expression.is_Atom or (rest.is_Symbol and factor == -1):
            return expression
        if expression not in self._known:
            self._known[expression] = self._assign(expression)
        return self._known[expression]

    def copy(self, expression: Any) -> Any:
        """A symbol for an expression that shares nothing with what else has its value."""
        if expression not in self._copies:
            self._copies[expression] = self._assign(expression)
        return self._copies[expression]

    def _assign(self, expression: Any) -> Any:
        symbol = sympy.Symbol(f"t{len(self.steps)}", real=True)
        self.steps.append((symbol, expression))
        return symbol


class Named(Symbol):
    """Expressions whose sums and products are given names at once, so that none grows long.

    Attributes:
        lines: The assignments made.
        frozen: Symbols that count as constants: a softmax is the same for any shift.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines()
        self.frozen: set[Any] = set()

    def named(self, x: Array) -> Array:
        """The array with a symbol in each place."""
        return self._map(self.lines.name, x)

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        y = super().sum(x, axes, keepdims)
        return self.named(y) if self.is_number(y) else y

    def matmul(self, a: Array, b: Array) -> Array:
        y = super().matmul(a, b)
        return self.named(y) if self.is_number(y) else y

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        return self.named(super().max(self.named(x), axes, keepdims)) if self.is_number(x) else x

    def _choose(self, truth: Any, x: Any, y: Any) -> Any:
        # A choice that hangs on a choice takes SymPy exponential time.
        return self.lines.name(super()._choose(truth, x, y))

    def _greatest(self, terms: list[Any]) -> Any:
        # Two at a time: over four at once SymPy takes a third of a second.
        top = super()._greatest
        return functools.reduce(lambda a, b: self.lines.name(top([a, b])), terms)

    def anchor(self, x: Array, axis: int) -> Array:
        def top(row: list[Any]) -> Any:
            # Of one element it is that element, and a ReduceMax may have it too: both still move.
            symbol = self.lines.copy(sympy.Max(*row, evaluate=False))
            self.frozen.add(symbol)
            return symbol

        return self.box(self._rows(self.named(x), (axis,), True, top))


def naming(table: Table) -> Table:
    """Cards whose results get names."""
    return table.replace(
        *(replace(card, impl=_names_results(card)) for card in table.values() if card.impl)
    )


def _names_results(card: Card) -> Callable[..., Any]:
    impl = card.impl

    def named(n: Numbers, *operands: Any, **attrs: Any) -> Any:
        assert isinstance(n, Named)
        assert impl is not None
        made = impl(n, *operands, **attrs)
        return (
            tuple(_with_name(n, y) for y in made)
            if isinstance(made, tuple)
            else _with_name(n, made)
        )

    return named


def _with_name(n: Named, y: Any) -> Any:
    if callable(y):
        return lambda: _with_name(n, y())
    return n.named(y) if n.is_number(y) else y


# ---- derivatives of assignments ----------------------------------------------------------------


class Partials:
    """SymPy's partial derivatives of short expressions, each form differentiated once."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, ...]] = {}

    def of(self, expression: Any, active: set[Any]) -> dict[Any, Any]:
        """The partials in those of its symbols that are active."""
        out: dict[Any, list[Any]] = defaultdict(list)
        for addend in sympy.Add.make_args(expression):
            factor, term = addend.as_coeff_Mul()
            found = sorted(term.free_symbols, key=_order)
            if not any(s in active for s in found):
                continue
            places = {s: sympy.Symbol(f"p{k}", real=True) for k, s in enumerate(found)}
            form = term.xreplace(places)
            if form not in self._known:
                self._known[form] = tuple(partial(form, p) for p in places.values())
            back = {p: s for s, p in places.items()}
            for s, slope in zip(found, self._known[form], strict=True):
                if s in active and slope != 0:
                    out[s].append(factor * slope.xreplace(back))
        return {s: sympy.Add(*slopes) for s, slopes in out.items()}


def _order(symbol: Any) -> tuple[str, int, str]:
    """In the order they were made, so that like terms give like forms."""
    name: str = symbol.name
    return name[:1], int(name.rpartition("_")[2] if "_" in name else name[1:]), name


Edges = Sequence[tuple[Any, Mapping[Any, Any], bool]]
"""For each assignment whose value depends on `wrt`: its symbol, its partials by symbol, and whether
it is a choice, which drops what it does not take: there 0 wins against an infinite factor."""


def _forward(lines: Lines, edges: Edges, xs: Sequence[Any], ys: Sequence[Any]) -> list[list[Any]]:
    """Rows of the Jacobian, by tangents: one pass for each input."""
    columns = []
    for x in xs:
        deadline.check()
        dots = {x: sympy.S.One}
        for t, partials, chooses in edges:
            times = _kept if chooses else _product
            terms = [times(d, dots[s]) for s, d in partials.items() if s in dots]
            if terms:
                dots[t] = lines.name(_sum(terms))
        columns.append([_outer(y, dots) for y in ys])
    return [list(row) for row in zip(*columns, strict=True)]


def _backward(lines: Lines, edges: Edges, xs: Sequence[Any], ys: Sequence[Any]) -> list[list[Any]]:
    """Rows of the Jacobian, by cotangents: one pass for each output."""
    rows = []
    for y in ys:
        deadline.check()
        bars: dict[Any, list[Any]] = defaultdict(list)
        coefficient, symbol = y.as_coeff_Mul()
        bars[symbol].append(coefficient)
        taken = {symbol}
        for t, partials, chooses in reversed(edges):
            if t in bars:
                t_bar = lines.name(_sum(bars[t]))
                # What only choices read may have been dropped, and all before it with it.
                times = _kept if chooses or t not in taken else _product
                for s, d in partials.items():
                    bars[s].append(times(d, t_bar))
                    if times is _product:
                        taken.add(s)
        rows.append([_sum(bars[x]) for x in xs])
    return rows


def _sum(terms: Sequence[Any]) -> Any:
    """The sum of products as they stand: like terms are rare, and looking for them is slow."""
    return sympy.Add(*terms, evaluate=False) if len(terms) > 1 else sympy.Add(*terms)


def _kept(a: Any, b: Any) -> Any:
    """a * b, and 0 where one is 0 though the other is infinite: what a choice drops has no say."""
    return _product(a, b) if a.is_Number or b.is_Number else kept(a, b)


def _product(a: Any, b: Any) -> Any:
    """a * b; of a number or a symbol with a symbol there is nothing to simplify."""
    if b.is_Symbol and a is not sympy.S.One and (a.is_Number or a.is_Symbol):
        return sympy.Mul(a, b, evaluate=False)
    return a * b


def _outer(y: Any, dots: Mapping[Any, Any]) -> Any:
    coefficient, symbol = y.as_coeff_Mul()
    return coefficient * dots.get(symbol, sympy.S.Zero)


# ---- the program ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A network and its Jacobian as assignments.

    Attributes:
        arguments: A symbol for each element of each float input.
        steps: Assignments (symbol, expression), in order.
        jacobian: Rows of expressions: a row for each number of `of`, a column for each of `wrt`.
        ys: The primal's outputs, as expressions.
    """

    arguments: list[Any]
    steps: list[tuple[Any, Any]]
    jacobian: list[list[Any]]
    ys: list[Any]


def write(problem: Problem) -> Written:
    """The network and its derivatives written out.

    Raises:
        CannotError: When something in it has no expression.
        UnsupportedError: Likewise.
    """
    n = Named()
    arguments, feeds = inputs(problem, n)
    out = Evaluator(problem.exact, n, naming(problem.table)).run(feeds)
    xs = [x for name in problem.wrt for x in feeds[name].reshape(-1).tolist()]
    ys = [y for name in problem.of for y in n.lift(out[name]).reshape(-1).tolist()]
    edges = _edges(n, xs)
    sweep = _backward if len(ys) <= len(xs) else _forward
    jacobian = sweep(n.lines, edges, xs, ys)
    return Written(arguments, n.lines.steps, jacobian, ys)


class Expanded:
    """The whole Jacobian as one compiled function of the inputs.

    Args:
        problem: What is differentiated.
        size: Of it, as expressions.
    """

    def __init__(self, problem: Problem, size: Size) -> None:
        found = write(problem)
        self._call = Jacobian(problem, found.arguments, found.steps, found.jacobian, found.ys)
        self.width = max(1, problem.columns)
        self.pads = True
        self.level = f"expanded ({size})"

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. The Jacobian costs the same for one direction as for all."""
        return self._call(point, directions)


def inputs(problem: Problem, n: Symbol) -> tuple[list[Any], dict[str, Any]]:
    """A symbol for each element of each float input, and all inputs as arrays."""
    feeds: dict[str, Any] = {}
    arguments: list[Any] = []
    for k, value in enumerate(problem.exact.inputs):
        if value.dtype.is_float:
            symbols = n.symbols(f"x{k}_", (int(np.prod(problem.point[value.name].shape)),))
            feeds[value.name] = symbols.reshape(problem.point[value.name].shape)
            arguments += symbols.tolist()
        else:
            feeds[value.name] = problem.point[value.name]
    return arguments, feeds


def _edges(n: Named, xs: Iterable[Any]) -> Edges:
    """The partials of every assignment that depends on xs, named too."""
    active, partials = set(xs), Partials()
    edges = []
    for t, expression in tuple(n.lines.steps):
        if t in n.frozen or not active & expression.free_symbols:
            continue
        active.add(t)
        slopes = partials.of(expression, active)
        chooses = expression.has(sympy.Piecewise, sympy.Max)
        edges.append((t, {s: n.lines.name(d) for s, d in slopes.items()}, chooses))
    return edges


class Jacobian:
    """A compiled Jacobian and primal, applied to directions.

    Args:
        problem: What is differentiated.
        arguments: A symbol for each element of its float inputs.
        steps: Assignments that the results use.
        jacobian: Rows of expressions.
        ys: The primal outputs, as expressions.
    """

    def __init__(
        self,
        problem: Problem,
        arguments: Sequence[Any],
        steps: Sequence[tuple[Any, Any]],
        jacobian: Sequence[Sequence[Any]],
        ys: Sequence[Any],
    ) -> None:
        self._problem = problem
        results = [*(e for row in jacobian for e in row), *ys]
        self._function = on_floats(arguments, alive(steps, results), results)
        self._shape = (problem.rows, problem.columns)
        self._floats = [v.name for v in problem.exact.inputs if v.dtype.is_float]
        self._fixed = [v.name for v in problem.exact.inputs if not v.dtype.is_float]
        self._shapes = {name: problem.shape(name) for name in problem.of}
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        self._ends: list[int] = ends.tolist()
        self._given: Arrays | None = None
        self._results = np.zeros(0)

    def __call__(self, point: Arrays, directions: Arrays) -> Images:
        if point is not self._given:
            self._given, self._results = point, self._at(point)
        cut = math.prod(self._shape)
        jacobian, primal = self._results[:cut].reshape(self._shape), self._results[cut:]
        flat = [np.reshape(directions[k], (len(directions[k]), -1)) for k in self._problem.wrt]
        images = _times(flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1), jacobian)
        return Images(self._split(images, (len(images),)), primal=self._split(primal.copy(), ()))

    def _at(self, point: Arrays) -> np.ndarray:
        """The Jacobian's elements, then the primal's."""
        for name in self._fixed:
            if not np.array_equal(point[name], self._problem.point[name]):
                raise CannotError(
                    f"the expressions were made for another value of the input {name!r}",
                    "prepare the problem again at this point",
                )
        values: list[float] = []
        for name in self._floats:
            values += np.asarray(point[name], np.float64).reshape(-1).tolist()
        found: np.ndarray = self._function(*values)
        return found

    def _split(self, elements: np.ndarray, lead: tuple[int, ...]) -> dict[str, np.ndarray]:
        """[..., all outputs] as one array for each output."""
        parts = np.split(elements, self._ends, axis=-1) if self._ends else [elements]
        return {
            name: part.reshape((*lead, *shape))
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


def _times(directions: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Each direction through the Jacobian; what is infinite counts only where a direction goes."""
    if np.all(np.isfinite(jacobian)):
        return np.asarray(directions @ jacobian.T)
    along = directions[:, None, :]
    with np.errstate(all="ignore"):
        terms = np.where(along == 0, 0.0, along * jacobian)
        return np.asarray(terms.sum(axis=-1))


def alive(steps: Sequence[tuple[Any, Any]], results: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Those assignments that the results need."""
    needed: set[Any] = set().union(*(e.free_symbols for e in results))
    kept = []
    for symbol, expression in reversed(steps):
        if symbol in needed:
            needed |= expression.free_symbols
            kept.append((symbol, expression))
    return kept[::-1]
