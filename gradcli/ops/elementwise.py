"""Operators that act on each element alone: arithmetic, functions, extrema, copies."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type, Var
from gradcli.numbers import Array, Mask, Numbers
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.irrational import over_root_pi
from gradcli.ops.kinds import (
    batch_elementwise,
    composite,
    custom,
    elementwise,
    same,
)

INPUT = ("input",)
BINARY = ("A", "B")
VARIADIC = ("data_0*",)

# ---- kinks and edges that several operators share -----------------------------------------------


def kink_at_zero(n: Numbers, x: Array, **_: Any) -> tuple[np.ndarray, np.ndarray]:
    """A function of one operand that has its only kink at 0."""
    return np.abs(x), x > 0


def _distance_to_zero(n: Numbers, x: Array, **_: Any) -> np.ndarray:
    return np.asarray(np.abs(x))


def _distance_to_one(n: Numbers, x: Array) -> np.ndarray:
    return np.asarray(np.abs(np.abs(x) - 1.0))


def _distance_to_pole(n: Numbers, x: Array) -> np.ndarray:
    """Of the tangent: the poles are at pi / 2 plus whole multiples of pi."""
    turns = np.round((x - math.pi / 2) / math.pi)
    return np.asarray(np.abs(x - (turns * math.pi + math.pi / 2)))


# ---- arithmetic ---------------------------------------------------------------------------------


def _dx_pow(s: Site) -> Var | float | None:
    """d(x^y)/dx = y x^(y-1), without the NaN of 0 * 0^-1 where y is 0."""
    if s.x1.const is not None and s.x1.const.size == 1:
        exponent = float(s.x1.const.item())
        short: dict[float, Callable[[], Var | float | None]] = {
            0.0: lambda: None,
            1.0: lambda: 1.0,
            2.0: lambda: s.x * 2.0,
            3.0: lambda: s.x * s.x * 3.0,
            0.5: lambda: 0.5 / s.y,
            -1.0: lambda: -(s.y * s.y),
        }
        if exponent in short:
            return short[exponent]()
        return s.b.op("Pow", s.x, s.b.like(exponent - 1.0, s.x)) * exponent
    y = s.b.cast(s.x1, s.x.dtype)
    # A known exponent stays whole where it is, however arithmetic rounds: x may be negative.
    less = y - 1.0 if s.x1.const is None else s.b.constant(s.x1.const - 1.0, s.x.dtype)
    slope = y * s.b.op("Pow", s.x, less)
    if s.x1.const is not None and np.all(s.x1.const):
        return slope
    return s.b.where(s.b.op("Equal", y, s.b.like(0.0, y)), 0.0, slope)


def _dy_pow(s: Site) -> Var:
    """d(x^y)/dy = x^y log x, whose limit is 0 where x^y is."""
    vanishes = s.b.op("Equal", s.y, s.b.like(0.0, s.y))
    return s.y * s.b.op("Log", s.b.where(vanishes, 1.0, s.x))


def _pow_edge(n: Numbers, x: Array, y: Array) -> np.ndarray:
    whole = (y >= 0) & (y == np.round(y))
    return np.where(whole, np.inf, np.abs(x))


def _truncate(n: Numbers, x: Array) -> Array:
    return n.where(n.less(x, n.zero), -n.floor(-x), n.floor(x))


def _mod(n: Numbers, a: Array, b: Array, fmod: int) -> Array:
    if not n.is_number(a):
        return np.fmod(a, b) if fmod else np.mod(a, b)
    turns = _truncate(n, a / b) if fmod else n.floor(a / b)
    return n.where(_beyond_all(n, a, b), _mod_of_infinity(n, a, b, fmod), a - b * turns)


def _beyond_all(n: Numbers, a: Array, b: Array) -> Mask:
    return n.logical_and(n.is_infinite(b), n.logical_not(n.is_infinite(a)))


def _mod_of_infinity(n: Numbers, a: Array, b: Array, fmod: int) -> Array:
    """What the standard says of an infinite divisor: a itself, or b where only b has its sign."""
    if fmod:
        return a
    below, above = (
        n.logical_and(n.less(x, n.zero), n.less(n.zero, y)) for x, y in ((a, b), (b, a))
    )
    return n.where(n.logical_or(below, above), b, a)


def _mod_kink(n: Numbers, a: Array, b: Array, fmod: int) -> tuple[np.ndarray, np.ndarray]:
    turns = a / b
    # Not the gap in turns times b: a quotient is rounded, and this is 0 for exact multiples alone.
    return np.abs(a - n.floor(turns + 0.5) * b), n.floor(turns)


ARITHMETIC = (
    elementwise("Add", lambda n, a, b: a + b, 1.0, 1.0, inputs=BINARY),
    elementwise("Sub", lambda n, a, b: a - b, 1.0, -1.0, inputs=BINARY),
    elementwise("Mul", lambda n, a, b: a * b, lambda s: s.x1, lambda s: s.x, inputs=BINARY),
    elementwise(
        "Div",
        lambda n, a, b: n.divide(a, b),
        lambda s: 1.0 / s.x1,
        lambda s: -s.y / s.x1,
        inputs=BINARY,
        edges=lambda n, a, b: np.abs(b) + 0 * np.abs(a),
        edge="division by 0",
        edge_of=1,
    ),
    elementwise(
        "Mod",
        _mod,
        1.0,
        # y = a - b turns, and turns is an integer that rounding has blurred a little.
        lambda s: s.b.op("Round", (s.y - s.x) / s.x1),
        inputs=BINARY,
        attrs={"fmod": 0},
        kinks=_mod_kink,
        convention="the number of turns counts as constant where it jumps",
        edges=lambda n, a, b, fmod: np.abs(b) + 0 * np.abs(a),
        edge="division by 0",
        edge_of=1,
    ),
    elementwise(
        "Pow",
        lambda n, x, y: n.power(x, y),
        _dx_pow,
        _dy_pow,
        inputs=("X", "Y"),
        edges=_pow_edge,
        edge="0 to a power that is negative or no integer",
    ),
    elementwise(
        "Sum", lambda n, *xs: functools.reduce(lambda a, b: a + b, xs), 1.0, inputs=VARIADIC
    ),
    elementwise(
        "Mean",
        lambda n, *xs: functools.reduce(lambda a, b: a + b, xs) / float(len(xs)),
        lambda s: s.b.like(1.0, s.y) / float(len(s.inputs)),
        inputs=VARIADIC,
    ),
    elementwise("Neg", lambda n, x: -x, -1.0, rounds=False),
    elementwise(
        "Reciprocal",
        lambda n, x: 1.0 / x,
        lambda s: -(s.y * s.y),
        edges=_distance_to_zero,
        edge="division by 0",
    ),
    elementwise(
        "Abs",
        lambda n, x: n.abs(x),
        lambda s: s.b.op("Sign", s.x),
        kinks=kink_at_zero,
        convention="0 at 0",
        rounds=False,
    ),
)

# ---- elementary functions -----------------------------------------------------------------------


def _dx_sigmoid(s: Site) -> Var:
    """sigma(x) sigma(-x).

    The usual y (1 - y) loses a digit for each 2.3 that x grows (half of float32 at 8, all of
    float64 at 37). This keeps them all and costs 1.2 times as much in onnxruntime.
    """
    return s.y * s.b.op("Sigmoid", -s.x)


def _dx_tanh(s: Site) -> Var:
    """4 sigma(2x) sigma(-2x).

    The usual 1 - y^2 loses a digit for each 1.15 that |x| grows: at 13 it is wrong by 1e-5 in
    float64, and at 20 it is 0. Where only float32 speed counts, `tune` may take it.
    """
    twice = s.x * 2.0
    return s.b.op("Sigmoid", twice) * s.b.op("Sigmoid", -twice) * 4.0


def _complement(s: Site) -> Var:
    """1 - x^2, without its cancellation near 1."""
    return (1.0 - s.x) * (s.x + 1.0)


def _root_of_complement(s: Site) -> Var:
    return s.b.op("Sqrt", _complement(s))


ELEMENTARY = (
    elementwise("Exp", lambda n, x: n.exp(x), lambda s: s.y, inputs=INPUT),
    elementwise(
        "Log",
        lambda n, x: n.log(x),
        lambda s: 1.0 / s.x,
        inputs=INPUT,
        edges=_distance_to_zero,
        edge="the logarithm of 0",
    ),
    elementwise(
        "Sqrt",
        lambda n, x: n.sqrt(x),
        lambda s: 0.5 / s.y,
        edges=_distance_to_zero,
        edge="the square root of 0",
    ),
    elementwise("Sin", lambda n, x: n.sin(x), lambda s: s.b.op("Cos", s.x), inputs=INPUT),
    elementwise("Cos", lambda n, x: n.cos(x), lambda s: -s.b.op("Sin", s.x), inputs=INPUT),
    elementwise(
        "Tan",
        lambda n, x: n.tan(x),
        lambda s: s.y * s.y + 1.0,
        inputs=INPUT,
        edges=_distance_to_pole,
        edge="a pole of the tangent",
    ),
    elementwise(
        "Asin",
        lambda n, x: n.asin(x),
        lambda s: 1.0 / _root_of_complement(s),
        inputs=INPUT,
        edges=_distance_to_one,
        edge="the arc sine of 1 or -1, where it is vertical",
    ),
    elementwise(
        "Acos",
        lambda n, x: n.acos(x),
        lambda s: -1.0 / _root_of_complement(s),
        inputs=INPUT,
        edges=_distance_to_one,
        edge="the arc cosine of 1 or -1, where it is vertical",
    ),
    elementwise("Atan", lambda n, x: n.atan(x), lambda s: 1.0 / (s.x * s.x + 1.0), inputs=INPUT),
    elementwise("Sinh", lambda n, x: n.sinh(x), lambda s: s.b.op("Cosh", s.x), inputs=INPUT),
    elementwise("Cosh", lambda n, x: n.cosh(x), lambda s: s.b.op("Sinh", s.x), inputs=INPUT),
    elementwise(
        "Asinh",
        lambda n, x: n.asinh(x),
        lambda s: 1.0 / s.b.op("Sqrt", s.x * s.x + 1.0),
        inputs=INPUT,
    ),
    elementwise(
        "Acosh",
        lambda n, x: n.acosh(x),
        # Of two roots: x * x - 1 would cancel near 1.
        lambda s: 1.0 / (s.b.op("Sqrt", s.x - 1.0) * s.b.op("Sqrt", s.x + 1.0)),
        inputs=INPUT,
        edges=lambda n, x: np.abs(x - 1.0),
        edge="the inverse hyperbolic cosine of 1, where it is vertical",
    ),
    elementwise(
        "Atanh",
        lambda n, x: n.atanh(x),
        lambda s: 1.0 / _complement(s),
        inputs=INPUT,
        edges=_distance_to_one,
        edge="the inverse hyperbolic tangent of 1 or -1",
    ),
    elementwise("Tanh", lambda n, x: n.tanh(x), _dx_tanh, inputs=INPUT),
    elementwise("Sigmoid", lambda n, x: n.sigmoid(x), _dx_sigmoid),
    elementwise(
        "Erf",
        lambda n, x: n.erf(x),
        lambda s: s.b.op("Exp", -(s.x * s.x)) * over_root_pi(s.b, 2.0, 1.0, s.x.dtype),
        inputs=INPUT,
    ),
)

# ---- the greater, the smaller, the clipped ------------------------------------------------------


def _share(s: Site, k: int) -> Var | float:
    """What one operand of Max or Min gets: all where it alone is extreme, its part of a tie."""
    if len(s.inputs) == 1:
        return 1.0
    x = s.input(k)
    if len(s.inputs) == 2:
        other = s.input(1 - k)
        wins, loses = (x > other, x < other) if s.key == "Max" else (x < other, x > other)
        return s.b.where(wins, 1.0, s.b.where(loses, 0.0, 0.5, like=x), like=x)
    hits = [s.b.cast(s.b.op("Equal", s.input(j), s.y), x.dtype) for j in range(len(s.inputs))]
    total = s.b.total(hits)
    assert total is not None
    return hits[k] / total


def _tie(sign: int) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Kinks of Max (sign 1) and Min (-1): how far the extreme operand is ahead of the next."""

    def kinks(n: Numbers, *xs: Array) -> tuple[np.ndarray, np.ndarray]:
        stacked = sign * np.stack(np.broadcast_arrays(*xs))
        if len(xs) == 1:
            return np.full(stacked.shape[1:], np.inf), np.zeros(stacked.shape[1:], np.int64)
        first, second = np.flip(np.sort(stacked, axis=0), axis=0)[:2]
        return first - second, np.argmax(stacked, axis=0)

    return kinks


def _clip(n: Numbers, x: Array, low: Array = None, high: Array = None) -> Array:
    # In this order: where low > high, ONNX takes high.
    x = x if low is None else n.maximum(x, low)
    return x if high is None else n.minimum(x, high)


def _clip_inside(s: Site) -> Var | float:
    masks = []
    if s.has(1):
        masks.append(s.x > s.x1)
    if s.has(2):
        masks.append(s.x < s.input(2))
    return functools.reduce(lambda a, b: s.b.op("And", a, b), masks) if masks else 1.0


def _clip_below(s: Site) -> Var:
    below = s.b.op("LessOrEqual", s.x, s.x1)
    return s.b.op("And", below, s.x1 < s.input(2)) if s.has(2) else below


def _clip_above(s: Site) -> Var:
    high = s.input(2)
    above = s.b.op("GreaterOrEqual", s.x, high)
    return s.b.op("Or", above, s.b.op("GreaterOrEqual", s.x1, high)) if s.has(1) else above


def _clip_kink(
    n: Numbers, x: Array, low: Array = None, high: Array = None
) -> tuple[np.ndarray, np.ndarray]:
    margin, branch = np.full(np.shape(x), np.inf), np.zeros(np.shape(x), np.int64)
    if low is not None:
        margin, branch = np.minimum(margin, np.abs(x - low)), branch + (x >= low)
    if high is not None:
        margin, branch = np.minimum(margin, np.abs(x - high)), branch + 2 * (x > high)
    return margin, branch


EXTREMA = (
    elementwise(
        "Max",
        lambda n, *xs: functools.reduce(n.maximum, xs),
        each=_share,
        inputs=VARIADIC,
        kinks=_tie(1),
        convention="equal shares among ties",
        rounds=False,
    ),
    elementwise(
        "Min",
        lambda n, *xs: functools.reduce(n.minimum, xs),
        each=_share,
        inputs=VARIADIC,
        kinks=_tie(-1),
        convention="equal shares among ties",
        rounds=False,
    ),
    elementwise(
        "Clip",
        _clip,
        _clip_inside,
        _clip_below,
        _clip_above,
        inputs=("input", "min?", "max?"),
        infer=same,
        kinks=_clip_kink,
        convention="0 at the bounds, as Relu has at 0; there min and max take all",
        rounds=False,
    ),
)

# ---- copies, and changes of element type --------------------------------------------------------


def _round_to(n: Numbers, x: Array, target: DType, saturate: int) -> Array:
    most = target.greatest if target.np.itemsize == 1 and saturate else 0.0
    if most:
        # Eight bits reach so little that they take their last number for what lies beyond.
        x = n.minimum(n.maximum(x, n.full((), -most)), n.full((), most))
    return n.round_to(x, target.np)


def _cast(n: Numbers, x: Array, to: str, saturate: int) -> Array:
    target = DType(to)
    if target is DType.STRING:
        raise UnsupportedError("Cast to strings")
    if n.is_mask(x):
        if target.is_float:
            return n.mask_to_number(x)
        is_bool = target is DType.BOOL
        return x if is_bool else n.where(x, np.ones((), target.np), np.zeros((), target.np))
    if n.is_number(x):
        if target.is_float:
            return x if target is DType.FLOAT64 else _round_to(n, x, target, saturate)
        if target is DType.BOOL:
            return n.logical_not(n.equal(x, n.zero))
        return n.to_integer(x, target.np)
    if DType.of(x) is DType.STRING:
        raise UnsupportedError("Cast from strings")
    if target.is_float:
        # Through the narrower float where one is asked for: a large integer is rounded by it.
        return n.lift(x.astype(target.np).astype(np.float64))
    return x.astype(target.np)


@functools.cache
def _between(dtype: DType) -> np.ndarray:
    """The numbers half-way between neighbours of a type of 8 bits or fewer."""
    every = np.arange(256, dtype=np.uint8).view(dtype.np).astype(np.float64)
    numbers = np.unique(every[np.isfinite(every)])
    return np.asarray((numbers[1:] + numbers[:-1]) / 2)


def _cast_jumps(n: Numbers, x: Array, to: str, **_: Any) -> tuple[np.ndarray, np.ndarray]:
    """Jumps: of integers at every other one, of the narrow floats half-way between neighbours.

    A wider float is a choice of arithmetic, whose rounding nobody counts.
    """
    target = DType(to)
    none = np.full(np.shape(x), np.inf), np.zeros(np.shape(x), np.int64)
    if not n.is_number(x):
        return none
    if target is DType.BOOL:
        return np.abs(x), np.sign(x)
    if target.is_integer:
        whole = np.trunc(x)
        # Towards zero: all between -1 and 1 becomes 0.
        nearest = np.where(np.abs(x) < 1, np.copysign(1.0, x), np.round(x))
        return np.abs(x - nearest), whole
    if target.np.itemsize > 1:
        return none
    middles = _between(target)
    k = np.searchsorted(middles, x)
    around = np.stack(
        [middles[np.clip(k - 1, 0, None)], middles[np.clip(k, None, middles.size - 1)]]
    )
    return np.min(np.abs(around - x), axis=0), np.asarray(k)


def _quantises(dtype: DType) -> bool:
    """Whether rounding to this float type is a staircase, and no choice of arithmetic."""
    return dtype.is_float and dtype.np.itemsize == 1


def _cast_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    return [None if x_dot is None or _quantises(DType(s["to"])) else s.again(x_dot)]


def _cast_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    if _quantises(DType(s["to"])):
        return [None]
    s.drop(0, s.dropped)
    return [s.b.cast(y_bar, s.x.dtype)]


def _cast_like(n: Numbers, x: Array, like: Array, saturate: int) -> Array:
    # Numbers do not remember how wide the file had them, so a rounding cannot be told from none;
    # that is why graphs have Cast instead before anybody evaluates them.
    if n.is_number(x) != n.is_number(like):
        raise UnsupportedError("CastLike between kinds of tensor; expand the graph first")
    return x


def _dropout(
    n: Numbers, x: Array, ratio: Array = None, training: Array = None, seed: int | None = None
) -> tuple[Array, np.ndarray]:
    if training is not None and np.any(training):
        raise UnsupportedError("Dropout in training mode is random")
    return x, np.ones(x.shape, np.bool_)


def _dropout_types(s: Site) -> Sequence[Type]:
    if s.has(2):
        training = s.input(2).const
        if training is None or np.any(training):
            raise UnsupportedError(
                "Dropout in training mode is random: it has no derivative to compare",
                "export the model for inference",
            )
    return [(s.x.dtype, s.x.shape), (DType.BOOL, s.x.shape)]


def _dropout_jvp(s: Site, dots: Vars) -> Vars:
    return [dots[0], None]


def _dropout_vjp(s: Site, bars: Vars) -> Vars:
    return [bars[0], *[None] * (len(s.inputs) - 1)]


COPIES: tuple[Card, ...] = (
    elementwise("Identity", lambda n, x: x, 1.0, inputs=INPUT, rounds=False),
    # A change between float types that networks compute in changes the derivative's type too: its
    # rounding is no part of the function. To 8 bits it is quantisation, flat between its jumps.
    # Other types carry no derivative at all.
    custom(
        "Cast",
        _cast,
        _cast_jvp,
        _cast_vjp,
        inputs=INPUT,
        infer=lambda s: [(DType(s["to"]), s.x.shape)],
        batch=batch_elementwise,
        attrs={"to": REQUIRED, "saturate": 1},
        kinks=_cast_jumps,
        jumps=True,
        convention="0 through 8-bit floats and integers; the identity through wider floats",
        rounds=False,
    ),
    composite(
        "CastLike",
        _cast_like,
        lambda s: [s.b.op("Cast", s.x, to=s.x1.dtype.value, saturate=s["saturate"])],
        inputs=("input", "target_type"),
        infer=lambda s: [(s.x1.dtype, s.x.shape)],
        attrs={"saturate": 1},
        flat={"target_type": "only its element type is read"},
    ),
    custom(
        "Dropout",
        _dropout,
        _dropout_jvp,
        _dropout_vjp,
        inputs=("data", "ratio?", "training_mode?"),
        outputs=("output", "mask"),
        infer=_dropout_types,
        attrs={"seed": None},
        flat={"ratio": "read in training mode only", "training_mode": "it is true or false"},
        rounds=False,
    ),
)

CARDS = (*ARITHMETIC, *ELEMENTARY, *EXTREMA, *COPIES)
