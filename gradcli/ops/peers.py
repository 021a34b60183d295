"""What others take for the derivative where an operator has none, beside what gradcli takes.

Facts, not rules: each was measured (torch 2.13, jax 0.10), and `tests/peers` holds them against
what is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Slope = float | str
"""A number, or attributes of the operator whose product it is: `alpha`, `alpha*gamma`."""


@dataclass(frozen=True)
class Convention:
    """What is taken for the slope at one place.

    Attributes:
        at: The place, in words.
        gradcli: The slope that gradcli's rules take.
        pytorch: That of PyTorch's own operator; None where it has none.
        jax: That of JAX's.
    """

    at: str
    gradcli: Slope
    pytorch: Slope | None = None
    jax: Slope | None = None


@dataclass(frozen=True)
class Taken:
    """A convention where an operator stands, in numbers; see Convention."""

    at: str
    gradcli: float
    pytorch: float | None
    jax: float | None


_TIE = (Convention("each of two that tie", 0.5, 0.5, 0.5),)
_FIRST = (Convention("the first of two that tie", 1.0, 1.0, 1.0),)
_STEP = (Convention("at a step", 0.0, 0.0, 0.0),)

CONVENTIONS: Mapping[str, tuple[Convention, ...]] = MappingProxyType(
    {
        "Abs": (Convention("at 0", 0.0, 0.0, 1.0),),
        "Ceil": _STEP,
        "Clip": (Convention("at a bound", 0.0, 1.0, 0.5),),
        "Elu": (Convention("at 0", "alpha", "alpha", "alpha"),),
        "Floor": _STEP,
        "GlobalMaxPool": (Convention("the first of two that tie", 0.5, 1.0),),
        "HardSigmoid": (Convention("at either end of the slope", 0.0, 0.0, 0.0),),
        "HardSwish": (Convention("at -3", 0.0, 0.0, 0.0), Convention("at 3", 1.0, 1.0, 1.0)),
        "LeakyRelu": (Convention("at 0", "alpha", "alpha", 1.0),),
        "Log": (Convention("at 0", math.inf, math.inf, math.inf),),
        "Max": _TIE,
        "MaxPool": _FIRST,
        "Min": _TIE,
        "Mod": (Convention("at a jump", 1.0, 1.0, 1.0),),
        "Reciprocal": (Convention("at 0", -math.inf, -math.inf, -math.inf),),
        "ReduceL1": (Convention("at 0", 0.0, 0.0, 1.0),),
        "ReduceL2": (Convention("at a vector of zeros", 0.0, 0.0, math.nan),),
        "ReduceMax": _TIE,
        "ReduceMin": _TIE,
        "Relu": (Convention("at 0", 0.0, 0.0, 0.0),),
        "Round": _STEP,
        "Selu": (Convention("at 0", "alpha*gamma", "alpha*gamma", "alpha*gamma"),),
        "Shrink": (Convention("at a threshold", 0.0, 0.0),),
        "Sign": _STEP,
        "Sqrt": (Convention("at 0", math.inf, math.inf, math.inf),),
        "ThresholdedRelu": (Convention("at the threshold", 0.0, 0.0),),
        "TopK": _FIRST,
    }
)
"""By operator: the places where it is not smooth."""


def taken(key: str, attrs: Mapping[str, Any]) -> tuple[Taken, ...]:
    """The conventions of an operator with these attributes; none where nothing was measured."""

    def number(slope: Slope) -> float:
        if isinstance(slope, str):
            return math.prod(float(attrs[name]) for name in slope.split("*"))
        return slope

    return tuple(
        Taken(
            c.at,
            number(c.gradcli),
            None if c.pytorch is None else number(c.pytorch),
            None if c.jax is None else number(c.jax),
        )
        for c in CONVENTIONS.get(key, ())
    )
