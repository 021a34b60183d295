"""Derivatives as SymPy writes them, brought to forms that keep their digits in the tails.

Only identities of algebra and of functions stand here, never a derivative.
"""

from __future__ import annotations

from typing import Any

import sympy


def stable(expression: Any) -> Any:
    """An equal expression that neither cancels nor divides 0 by 0 where this one would."""
    if not expression.free_symbols:
        return expression
    if expression.has(sympy.tanh):
        expression = expression.replace(lambda e: e.is_Add, _sech)
    if expression.has(sympy.Pow):
        expression = expression.replace(lambda e: e.is_Mul, _one_power)
        expression = expression.replace(lambda e: e.is_Mul, _vanishing_power)
    return expression


def _sech(total: Any) -> Any:
    """1 - tanh(u)^2 = sech(u)^2: the left side has lost all its digits at u = 20."""
    u = sympy.Wild("u")
    for term in total.args:
        coefficient, rest = term.as_coeff_Mul()
        match = rest.match(sympy.tanh(u) ** 2)
        if match is not None and -coefficient in total.args:
            others = [t for t in total.args if t not in (term, -coefficient)]
            return sympy.Add(*others, -coefficient * sympy.sech(match[u]) ** 2)
    return total


def _vanishing_power(product: Any) -> Any:
    """x**y log x, and 0 where x**y = 0: the left side is 0 times infinity there."""
    for power in (f for f in product.args if f.is_Pow and f.exp.free_symbols):
        if sympy.log(power.base) in product.args:
            return sympy.Piecewise((0, sympy.Eq(power, 0)), (product, True), evaluate=False)
    return product


def _one_power(product: Any) -> Any:
    """y x**y / x = y x**(y - 1), and 0 where y = 0: the left side is 0/0 at x = 0."""
    for power in (f for f in product.args if f.is_Pow and f.exp.free_symbols):
        inverse = power.base**-1
        if inverse in product.args and power.exp in product.args:
            rest = [f for f in product.args if f not in (power, inverse)]
            slope = sympy.Mul(*rest, power.base ** (power.exp - 1))
            return sympy.Piecewise((0, sympy.Eq(power.exp, 0)), (slope, True))
    return product
