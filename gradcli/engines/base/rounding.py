"""How much of a result is rounding: the same evaluation with every rounding made at random."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.numbers import Array, Numbers
from gradcli.ops import Card, Table

ROUNDED = (
    *("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sigmoid", "erf", "erfc", "sin", "cos"),
    *("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
    *("softplus", "power", "divide", "sum", "matmul"),
)
"""What an operator may round inside itself, where only the number system sees it."""


EPS32 = 2.0**-23

ABSOLUTE = (
    *("Tanh", "Sigmoid", "Erf", "Softmax"),
    *("Elu", "Selu", "Celu", "Mish", "Gelu", "com.microsoft::Gelu"),
)
"""Operators that fast kernels compute to an absolute error: those with results between -1 and 1,
and those that are put together from such, or from exp(x) - 1 as it stands."""


COARSE = frozenset(
    (
        *("Attention", "BlackmanWindow", "DFT", "Gelu", "GroupNormalization", "HammingWindow"),
        *("Shrink", "com.microsoft::FastGelu"),
    )
)
"""Operators that onnxruntime computes in float32 inside, or with constants of that width, also on
float64: by the standard's own definition of some, as that of GroupNormalization, whose first stage
is in float32. Measured: of all others with a float64 kernel, 13 digits and more are right."""


def shaken(
    table: Table, rng: np.random.Generator, eps: float = 2.0**-52, *, kernels: bool = False
) -> Table:
    """Cards that compute as these do, each with relative errors of `eps`, up or down at random.

    Evaluating a graph with them a few times, and looking at the spread, measures the rounding error
    of the plain evaluation (Parker 1997, "Monte Carlo Arithmetic"). It sees what no look at the
    outputs can: digits lost in a large intermediate value, and lost again at every point nearby.

    Operators that only choose or move elements stay exact, so ties stay ties.

    Args:
        table: Cards.
        rng: Of the random signs.
        eps: Relative size of an error.
        kernels: Whether functions that saturate have absolute errors of this size, as they have in
            a runtime's kernels: far out in a tail, or near a zero, no digit is right; and whether
            what is computed in float32 inside has the errors of float32.
    """

    def shake_card(card: Card) -> Card:
        if not _rounds(card):
            return card
        own = max(eps, EPS32) if kernels and card.op in COARSE else eps
        return _shake(card, rng, own, kernels and card.op in ABSOLUTE)

    return table.changed(shake_card)


def _rounds(card: Card) -> bool:
    return card.impl is not None and card.kind != "flat" and bool(card.rounds)


def _shake(card: Card, rng: np.random.Generator, eps: float, blurred: bool) -> Card:
    impl = card.impl
    assert impl is not None

    @functools.cache
    def restless(n: Numbers) -> Numbers:
        return _shake_numbers(n, rng, eps)

    def shaken_impl(n: Numbers, *operands: Any, **attrs: Any) -> Any:
        if callable(card.rounds) and not card.rounds(attrs):
            return impl(n, *operands, **attrs)
        made = impl(restless(n), *_shake_operands(card, n, operands, rng, eps), **attrs)
        if isinstance(made, tuple):
            return tuple(_shake_result(n, x, operands, rng, eps) for x in made)
        made = _shake_result(n, made, operands, rng, eps)
        return made + eps * rng.choice((-1.0, 1.0), np.shape(made)) if blurred else made

    return replace(card, impl=shaken_impl)


def _shake_numbers(n: Numbers, rng: np.random.Generator, eps: float) -> Numbers:
    """The same number system with roundings at random."""
    other = copy.copy(n)

    def shake_result(operation: Callable[..., Array]) -> Callable[..., Array]:
        def shaken_operation(*operands: Any, **how: Any) -> Array:
            made = operation(*operands, **how)
            return shake(made, rng, eps) if n.is_number(made) else made

        return shaken_operation

    for name in ROUNDED:
        setattr(other, name, shake_result(getattr(n, name)))
    return other


def _shake_operands(
    card: Card, n: Numbers, operands: tuple[Any, ...], rng: np.random.Generator, eps: float
) -> list[Any]:
    """Operators that add up many terms lose digits by the size of the terms, not of the sum."""
    out = list(operands)
    if card.kind == "elementwise":
        return out
    if card.kind == "bilinear":
        # One factor of each product is enough: the smaller one, for speed.
        place = min((0, 1), key=lambda k: np.size(out[k]))
    elif out:
        place = 0
    else:
        return out
    if n.is_number(out[place]):
        out[place] = shake(out[place], rng, eps)
    return out


def _shake_result(
    n: Numbers, x: Any, operands: tuple[Any, ...], rng: np.random.Generator, eps: float
) -> Any:
    if callable(x):
        return lambda: _shake_result(n, x(), operands, rng, eps)
    if not n.is_number(x) or any(_is_view(x, operand) for operand in operands):
        return x
    return shake(x, rng, eps)


def _is_view(x: Array, operand: Any) -> bool:
    return isinstance(operand, np.ndarray) and np.may_share_memory(x, operand)


def shake(x: Array, rng: np.random.Generator, eps: float) -> Array:
    """x with a relative error of eps, up or down, in every real and every imaginary part.

    Never less than eps: at the precision of x itself, most smaller ones would be rounded away. An
    imaginary part has twice that: in the quotient of a saturated softmax its error cancels against
    the real part's, and of equal ones nothing would be left, in all of three runs now and then.
    """
    if not np.iscomplexobj(x):
        return x * np.where(rng.integers(2, size=np.shape(x), dtype=np.int8), 1 + eps, 1 - eps)
    out = np.empty(np.shape(x), x.dtype)
    out.real, out.imag = shake(x.real, rng, eps), shake(x.imag, rng, 2 * eps)
    return out


def spread(runs: Iterable[np.ndarray], exact: np.ndarray) -> np.ndarray:
    """Three standard deviations of shaken runs about the plain one, elementwise."""
    with np.errstate(all="ignore"):
        squares = [np.square(run - exact) for run in runs]
        wide = 3.0 * np.sqrt(np.sum(squares, axis=0) / max(len(squares), 1))
    return np.where(np.isnan(wide), np.inf, wide)
