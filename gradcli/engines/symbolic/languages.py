"""SymPy expressions in the languages that people read or compile: no digit of a number is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from gradcli.engines.symbolic.code import _Printer
from gradcli.errors import CannotError

Names = Mapping[Any, str]
"""What a symbol is called in the text."""

_ELEMENTARY = ("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")
_INVERSE = ("asin", "acos", "atan", "asinh", "acosh", "atanh")
_BOUNDED = ("log", "log1p", "sqrt", "asin", "acos", "acosh", "atanh")
"""Functions that are not defined everywhere."""

_KNOWN = (*_ELEMENTARY, *_INVERSE, "erf", "erfc", "sech", "sigmoid", "floor", "Abs", "sign", "Max")


def _function(e: Any) -> str:
    """The name of a function that every language here has, or gets with the code.

    Raises:
        CannotError: When it is another one.
    """
    name = type(e).__name__
    if name not in _KNOWN:
        raise CannotError(f"there is no closed form: {name} has none in a formula")
    return name


# ---- for people ----------------------------------------------------------------------------------


def _greater(e: Any) -> tuple[Any, Any] | None:
    """Two numbers of which a choice takes the greater, the first where they tie; else None."""
    if len(e.args) != 2 or e.args[1][1] != sympy.true:
        return None
    (one, condition), (other, _) = e.args
    if condition == sympy.Ge(one, other, evaluate=False):
        return one, other
    return (other, one) if condition == sympy.Lt(other, one, evaluate=False) else None


def _numbers_last(e: Any) -> Any:
    """A comparison with the number on its right: z > 0, not 0 < z."""
    return e.reversed if e.lhs.is_Number and not e.rhs.is_Number else e


class _Text(StrPrinter):  # type: ignore[misc]  # sympy ships no types
    """Plain text, as one would type it."""

    def __init__(self, names: Names) -> None:
        super().__init__({"order": "none"})
        self._names = names

    def _print_Symbol(self, e: Any) -> str:
        return self._names[e]

    def _print_Float(self, e: Any) -> str:
        return repr(float(e))

    def _print_Pow(self, e: Any, rational: bool = False) -> str:
        return str(super()._print_Pow(e, rational=rational)).replace("**", "^")

    def _print_Function(self, e: Any) -> str:
        return f"{_function(e).lower()}({', '.join(map(self._print, e.args))})"

    _print_Max = _print_Function

    def _print_Relational(self, e: Any) -> str:
        return str(super()._print_Relational(_numbers_last(e)))

    def _print_Piecewise(self, e: Any) -> str:
        pair = _greater(e)
        if pair is not None:
            return f"max({', '.join(map(self._print, pair))})"
        text = "nan"
        for value, condition in reversed(e.args):
            one = self._print(value)
            if condition == sympy.true:
                text = one
            else:
                text = f"where({self._print(condition)}, {one}, {text})"
        return text


class _Latex(LatexPrinter):  # type: ignore[misc]  # likewise
    """The source of a formula in LaTeX's mathematics mode."""

    def __init__(self, names: Names) -> None:
        super().__init__({"order": "none", "mul_symbol": r" \, "})
        self._names = names

    def _print_Symbol(self, e: Any, style: str = "plain") -> str:
        del style  # of SymPy's signature
        return self._names[e]

    def _print_Float(self, e: Any) -> str:
        mantissa, _, exponent = repr(float(e)).partition("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa

    def _print_Function(self, e: Any, exp: Any = None) -> str:
        name = _function(e)
        inner = ", ".join(map(self._print, e.args))
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\operatorname{{{name.lower()}}}{power}\left({inner}\right)"

    _print_sech = _print_Function

    def _print_Relational(self, e: Any) -> str:
        return str(super()._print_Relational(_numbers_last(e)))

    def _print_Max(self, e: Any, exp: Any = None) -> str:
        return self._greatest(e.args) + ("" if exp is None else f"^{{{exp}}}")

    def _greatest(self, terms: Iterable[Any]) -> str:
        return rf"\max\left({', '.join(map(self._print, terms))}\right)"

    def _print_Piecewise(self, e: Any) -> str:
        pair = _greater(e)
        if pair is not None:
            return self._greatest(pair)
        return str(super()._print_Piecewise(e))


# ---- for compilers -------------------------------------------------------------------------------


def _turned(power: Any) -> Any:
    """x^n of x^-n, as it stands; x itself of 1/x."""
    base, n = power.args
    return base if n == -1 else sympy.Pow(base, -n, evaluate=False)


class _Code(_Printer):
    """What C, Julia and Python have in common. Every number is a float: 1/2 is a half."""

    functions: Mapping[str, str] = {}
    joint = (" && ", " || ", "!", "^")
    constants: tuple[str, str, str] = ("pi", "inf", "nan")

    def __init__(self, names: Names) -> None:
        super().__init__({"order": "none"})
        self._names = names

    def _print_Symbol(self, e: Any) -> str:
        return self._names[e]

    def _number(self, number: float) -> str:
        return repr(number)

    def _literal(self, e: Any) -> str:
        text = self._number(float(e))
        return f"({text})" if text.startswith("-") else text

    _print_Float = _print_Integer = _print_Rational = _literal
    _print_Zero = _print_One = _print_NegativeOne = _print_Half = _literal

    def _print_Mul(self, expr: Any) -> str:
        above, below = [], []
        for factor in expr.args:
            power = factor.is_Pow and factor.exp.is_Rational and factor.exp < 0
            if power:
                below.append(_turned(factor))
            else:
                above.append(factor)
        text = "*".join(map(self._factor, above)) or self._number(1.0)
        return "/".join([text, *map(self._factor, below)])

    def _factor(self, e: Any) -> str:
        text = self._print(e)
        return f"({text})" if e.is_Mul or e.is_Pow else text

    def _print_Pow(self, e: Any, rational: bool = False) -> str:
        del rational  # of SymPy's signature
        base, power = e.args
        if power.is_Rational and power < 0:
            return f"{self._number(1.0)}/{self._factor(_turned(e))}"
        if power == sympy.S.Half:
            return self._root(base)
        text = self._print(base)
        return self._power(text if base.is_Symbol or base.is_Function else f"({text})", power)

    def _root(self, base: Any) -> str:
        return f"{self.functions['sqrt']}({self._print(base)})"

    def _power(self, base: str, power: Any) -> str:
        exponent = int(power) if power.is_Integer else self._print(power)
        return f"{base}{self.joint[3]}{exponent}"

    def _print_Function(self, e: Any) -> str:
        name = _function(e)
        terms = [self._print(a) for a in e.args]
        called = self.functions.get(name, name)
        while name == "Max" and len(terms) > 2:
            terms = [f"{called}({terms[0]}, {terms[1]})", *terms[2:]]
        return f"{called}({', '.join(terms)})"

    _print_Max = _print_Function

    def _print_And(self, e: Any) -> str:
        return f"({self.joint[0].join(map(self._print, e.args))})"

    def _print_Or(self, e: Any) -> str:
        return f"({self.joint[1].join(map(self._print, e.args))})"

    def _print_Not(self, e: Any) -> str:
        return f"({self.joint[2]}{self._print(e.args[0])})"

    def _print_Pi(self, _: Any) -> str:
        return self.constants[0]

    def _print_Exp1(self, _: Any) -> str:
        return f"{self.functions['exp']}({self._number(1.0)})"

    def _print_Infinity(self, _: Any) -> str:
        return self.constants[1]

    def _print_NegativeInfinity(self, _: Any) -> str:
        return f"(-{self.constants[1]})"

    def _print_ComplexInfinity(self, _: Any) -> str:
        return self.constants[2]

    def _print_NaN(self, _: Any) -> str:
        return self.constants[2]

    def _print_Piecewise(self, e: Any) -> str:
        text = self.constants[2]
        for value, condition in reversed(e.args):
            one = self._print(value)
            if condition == sympy.true:
                text = one
            else:
                text = self._choice(self._print(condition), one, text)
        return text


class _Python(_Code):
    """Python over NumPy's float64, of which 1/0 is infinite and no error."""

    functions: Mapping[str, str] = {
        **{name: f"np.{name}" for name in (*_ELEMENTARY, "floor", "sign")},
        **{name: f"np.arc{name[1:]}" for name in _INVERSE},
        "Abs": "np.abs",
        "Max": "np.maximum",
        "erf": "math.erf",
        "erfc": "math.erfc",
    }
    joint = (" and ", " or ", "not ", "**")
    constants = ("np.pi", "np.float64(np.inf)", "np.float64(np.nan)")

    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"({one} if {condition} else {other})"


class _C(_Code):
    """C99, in double. A hexadecimal float is the very number."""

    functions: Mapping[str, str] = {"Abs": "fabs", "Max": "fmax", "sqrt": "sqrt", "exp": "exp"}
    constants = ("0x1.921fb54442d18p+1", "INFINITY", "NAN")

    def _number(self, number: float) -> str:
        return f"{number:.1f}" if number.is_integer() and abs(number) < 1e6 else number.hex()

    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"({condition} ? {one} : {other})"

    def _power(self, base: str, power: Any) -> str:
        return f"pow({base}, {self._print(power)})"


class _Julia(_Code):
    """Julia, in Float64. Where others give NaN it throws: `domain` gives NaN."""

    functions: Mapping[str, str] = {"Abs": "abs", "Max": "max", "sqrt": "sqrt", "exp": "exp"}
    constants = ("Float64(pi)", "Inf", "NaN")

    def _print_Function(self, e: Any) -> str:
        name = _function(e)
        if name in _BOUNDED:
            return f"domain({name}, {self._print(e.args[0])})"
        return str(super()._print_Function(e))

    def _root(self, base: Any) -> str:
        return f"domain(sqrt, {self._print(base)})"

    def _power(self, base: str, power: Any) -> str:
        if power.is_Integer:
            return f"{base}^{int(power)}"
        return f"domain(^, {base}, {self._print(power)})"

    def _choice(self, condition: str, one: str, other: str) -> str:
        return f"({condition} ? {one} : {other})"


PRINTERS: Mapping[str, Callable[[Names], Any]] = {
    "text": _Text,
    "latex": _Latex,
    "python": _Python,
    "c": _C,
    "julia": _Julia,
}


class Terms:
    """Writes expressions in one language, with one set of names.

    Args:
        language: `text`, `latex`, `python`, `c` or `julia`.
        names: What symbols are called; in sums, terms stand in the order of these.
    """

    def __init__(self, language: str, names: Names) -> None:
        self._printer = PRINTERS[language](names)
        self._place = {symbol: k for k, symbol in enumerate(names)}

    def __call__(self, expression: Any) -> list[str]:
        """An expression as text, cut where a line may end: between terms of its outermost sum.

        Each part after the first begins with its sign and a blank.

        Raises:
            CannotError: When something in it cannot be written down.
        """
        parts: list[str] = []
        for term in sorted(sympy.Add.make_args(expression), key=self._first):
            if term.as_coeff_Mul()[0].is_negative:
                parts.append(("- " if parts else "-") + self._printer.doprint(-term))
            else:
                parts.append(("+ " if parts else "") + self._printer.doprint(term))
        return parts

    def _first(self, term: Any) -> int:
        return min((self._place[s] for s in term.free_symbols), default=len(self._place))
