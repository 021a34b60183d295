"""SymPy expressions as Python functions: in plain floats, or elementwise over NumPy arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy
from sympy.printing.str import StrPrinter

from gradcli.numbers import real


def sech(x: Any) -> Any:
    """1 / cosh, which does not overflow where cosh does."""
    e = np.exp(-np.abs(x))
    return 2.0 * e / (1.0 + e * e)


def _float_sech(x: float) -> float:
    e = math.exp(-abs(x))
    return 2.0 * e / (1.0 + e * e)


class kept(sympy.Function):  # type: ignore[misc]  # noqa: N801 # as generated code calls it
    """A product of two factors of which a zero wins against an infinity, and against a NaN."""


def _float_kept(a: float, b: float) -> float:
    return a * b if a and b else 0.0


ON_FLOATS: Mapping[str, Any] = {
    "exp": math.exp,
    "log": math.log,
    "log1p": math.log1p,
    "expm1": math.expm1,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": math.atanh,
    "erf": math.erf,
    "erfc": math.erfc,
    "sech": _float_sech,
    "floor": lambda x: float(math.floor(x)),
    "Abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "Max": max,
    "kept": _float_kept,
    "pi": math.pi,
    "E": math.e,
    "inf": math.inf,
    "nan": math.nan,
}
"""What generated code may call when its variables are Python floats."""

ON_ARRAYS: Mapping[str, Any] = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": real.erf,
    "erfc": real.erfc,
    "sech": sech,
    "floor": np.floor,
    "Abs": np.abs,
    "sign": np.sign,
    "Max": lambda *terms: functools.reduce(np.maximum, terms),
    "where": np.where,
    "wide": np.float64,
    "kept": _float_kept,
    "pi": math.pi,
    "E": math.e,
    "inf": math.inf,
    "nan": math.nan,
}
"""What generated code may call when its variables are float64 arrays or NumPy's floats."""


_AS_IT_STANDS = {"order": "none"}
"""Settings of a printer: sorting the terms of every sum would take most of the time."""


class _Printer(StrPrinter):  # type: ignore[misc]  # sympy ships no types
    """Expressions as Python; SymPy's own printers shorten a Float to 15 digits."""

    def _print_Float(self, e: Any) -> str:
        return repr(float(e))

    def _print_Add(self, expr: Any, order: Any = None) -> str:  # noqa: ARG002  # SymPy passes it
        # Most of what is printed is sums of products of atoms; SymPy takes pains over their looks.
        return "(" + " + ".join(map(self._print, expr.args)) + ")"

    def _print_Mul(self, expr: Any) -> str:
        if all(a.is_Symbol or a.is_Number for a in expr.args):
            return "*".join(map(self._print, expr.args))
        made: str = super()._print_Mul(expr)
        return made

    def _print_Relational(self, e: Any) -> str:
        return f"({self._print(e.lhs)} {e.rel_op} {self._print(e.rhs)})"

    def _print_And(self, e: Any) -> str:
        return "(" + " & ".join(map(self._print, e.args)) + ")"

    def _print_Or(self, e: Any) -> str:
        return "(" + " | ".join(map(self._print, e.args)) + ")"

    def _print_Not(self, e: Any) -> str:
        # Not `~`, which makes -2 of Python's True.
        return f"(True ^ {self._print(e.args[0])})"

    def _print_ITE(self, e: Any) -> str:
        return self._choice(*map(self._print, e.args))

    def _print_Infinity(self, _: Any) -> str:
        return "inf"

    def _print_NegativeInfinity(self, _: Any) -> str:
        return "(-inf)"

    def _print_ComplexInfinity(self, _: Any) -> str:
        return "nan"

    def _print_NaN(self, _: Any) -> str:
        return "nan"

    def _print_Exp1(self, _: Any) -> str:
        return "E"

    def _print_Piecewise(self, e: Any) -> str:
        # The last condition is True; where it is not, nothing holds and nothing is known.
        text = "nan"
        for value, condition in reversed(e.args):
            one = self._print(value)
            text = (
                one if condition == sympy.true else self._choice(self._print(condition), one, text)
            )
        return text

    def _choice(self, condition: str, one: str, other: str) -> str:
        raise NotImplementedError


class _FloatPrinter(_Printer):
    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"({one} if {condition} else {other})"


class _CarefulPrinter(_FloatPrinter):
    """For NumPy's floats: a choice between Python's own would raise where it is divided by."""

    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"wide({super()._choice(condition, one, other)})"


class _ArrayPrinter(_Printer):
    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"where({condition}, {one}, {other})"


Steps = Iterable[tuple[Any, Any]]
"""Assignments in order: (symbol, expression)."""


def on_floats(arguments: Sequence[Any], steps: Steps, results: Sequence[Any]) -> Callable[..., Any]:
    """A function of floats that gives all results, as one array of float64.

    Python's floats are several times faster than NumPy's, and raise where NumPy's go to infinity;
    then the same lines run again in NumPy's. Of a Piecewise only the piece that holds is computed.

    Args:
        arguments: Symbols.
        steps: Assignments of expressions to further symbols.
        results: Expressions.
    """

    def source(printer: _Printer) -> str:
        wanted = ", ".join(map(printer.doprint, results))
        return _source(printer, arguments, steps, f"[{wanted}]")

    fast = _compiled(source(_FloatPrinter(_AS_IT_STANDS)), ON_FLOATS)

    @functools.cache
    def careful() -> Callable[..., Any]:
        return _compiled(_widened(source(_CarefulPrinter(_AS_IT_STANDS))), ON_ARRAYS)

    def run(*values: float) -> np.ndarray:
        try:
            return np.array(fast(*values), np.float64)
        except (ArithmeticError, ValueError, TypeError):
            # Overflow, division by 0, a logarithm of 0; and a root of a negative number, which
            # Python makes complex.
            with np.errstate(all="ignore"):
                return np.array(careful()(*map(np.float64, values)), np.float64)

    return run


def on_arrays(arguments: Sequence[Any], expression: Any) -> Callable[..., np.ndarray]:
    """A function of arrays, elementwise, operands broadcast."""
    steps, (result,) = sympy.cse([expression], symbols=sympy.numbered_symbols("_t", real=True))
    printer = _ArrayPrinter(_AS_IT_STANDS)
    source = _source(printer, arguments, steps, printer.doprint(result))
    compiled: Callable[..., np.ndarray] = _compiled(source, ON_ARRAYS)
    return compiled


def _source(printer: _Printer, arguments: Sequence[Any], steps: Steps, result: str) -> str:
    lines = [f"    {name} = {printer.doprint(e)}" for name, e in steps]
    return "\n".join([f"def f({', '.join(map(str, arguments))}):", *lines, f"    return {result}"])


def _widened(source: str) -> str:
    """The same lines with every assigned number one of NumPy's: Python's 1 / 0 raises."""
    head, *steps, last = source.split("\n")
    sides = (line.split(" = ", 1) for line in steps)
    return "\n".join([head, *(f"{name} = wide({value})" for name, value in sides), last])


def _compiled(source: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    # The text is made of SymPy's symbols, which are ours, and never of a name in the user's file.
    code = _code(source)
    scope = {"__builtins__": {}, **names}
    exec(code, scope)  # noqa: S102 # our own printer wrote it, of expressions and no text of a file
    made: Callable[..., Any] = scope["f"]
    return made


@functools.lru_cache(maxsize=4)
def _code(source: str) -> Any:
    return compile(source, "<symbolic>", "exec")
