"""Local derivatives: one element of an operator as an expression, differentiated by SymPy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from gradcli import deadline
from gradcli.engines.symbolic.code import on_arrays
from gradcli.engines.symbolic.stable import stable
from gradcli.numbers.symbol import Symbol

Key = tuple[Any, ...]
"""What an expression hangs on: an operator's name, its attributes, and its fixed operands."""


@functools.cache
def symbols() -> Symbol:
    """The number system of expressions."""
    return Symbol()


def derivative(expression: Any, symbol: Any) -> Any:
    """The partial derivative as SymPy writes it.

    At a kink a Piecewise takes the derivative of the piece that holds at the point itself, as the
    primal takes its value. So Relu, `where(x < 0, 0, x)`, has derivative 1 at 0. Steps are
    constant.
    """
    deadline.check()
    # SymPy leaves the derivative of a floor undone.
    steps = {step: sympy.Dummy(real=True) for step in expression.atoms(sympy.floor)}
    slope = sympy.diff(expression.xreplace(steps), symbol)
    return slope.xreplace({dummy: step for step, dummy in steps.items()})


def partial(expression: Any, symbol: Any) -> Any:
    """The partial derivative in a form that can be evaluated in the tails."""
    return stable(derivative(expression, symbol))


@dataclass(frozen=True)
class Local:
    """A function of each element alone, and its partials over arrays.

    Attributes:
        arguments: A symbol for each operand that varies.
        expression: Of one element.
    """

    arguments: tuple[Any, ...]
    expression: Any

    @functools.cached_property
    def _partials(self) -> dict[int, Any]:
        return {}

    def partial(self, k: int) -> float | Callable[..., np.ndarray]:
        """The derivative in the k-th argument: a number, or a function of all arguments."""
        if k not in self._partials:
            slope = partial(self.expression, self.arguments[k])
            self._partials[k] = (
                on_arrays(self.arguments, slope) if slope.free_symbols else float(slope)
            )
        made: float | Callable[..., np.ndarray] = self._partials[k]
        return made


class Locals:
    """Local derivatives, made once for each operator with its attributes."""

    def __init__(self) -> None:
        self._made: dict[Key, Local] = {}

    def __len__(self) -> int:
        return len(self._made)

    def get(
        self,
        name: str,
        impl: Callable[..., Any],
        operands: Sequence[Any],
        attrs: Mapping[str, Any],
    ) -> tuple[Local, list[int]]:
        """The derivative of an elementwise impl for operands such as these.

        Args:
            name: Of the operator or operation.
            impl: `impl(n, *operands, **attrs)`.
            operands: Arrays of floats or integers, plain numbers, or None where absent.
            attrs: Attributes.

        Returns:
            The derivative, and the places of the operands that are its arguments.
        """
        fixed = tuple(_short(x) for x in operands)
        key = (name, *sorted((k, repr(v)) for k, v in attrs.items()), fixed)
        places = [k for k, x in enumerate(fixed) if x == "x"]
        if key not in self._made:
            n = symbols()
            variables = [n.symbols(f"x{k}", ()) for k in places]
            free = iter(variables)
            given = [
                next(free) if x == "x" else None if x is None else n.full((), float(x))
                for x in fixed
            ]
            expression = impl(n, *given, **attrs)
            self._made[key] = Local(
                tuple(v.item() for v in variables), expression.reshape(()).item()
            )
        return self._made[key], places


def _short(x: Any) -> float | str | None:
    """What an operand is written as: a small whole or half number by itself, else a symbol.

    SymPy differentiates x**2 to 2*x, which holds at 0, and x**y to y*x**y/x, which does not.
    """
    if x is None:
        return None
    if isinstance(x, np.ndarray | float | int | np.generic) and np.size(x) == 1:
        number = float(np.asarray(x).reshape(-1)[0])
        if (2 * number).is_integer() and abs(number) <= 8:
            return number
    return "x"
