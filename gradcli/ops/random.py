"""Operators that draw at random: refused by name until one draw is shared by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradcli.graph import DType, Type
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.kinds import opaque

REASON = "it draws at random, so that no two methods would differentiate the same function"


def _drawn(s: Site) -> Sequence[Type]:
    """Of a shape of its own."""
    return [(DType(s["dtype"]), tuple(s["shape"]))]


def _drawn_like(s: Site) -> Sequence[Type]:
    return [(s.x.dtype if s["dtype"] is None else DType(s["dtype"]), s.x.shape)]


def _samples(s: Site) -> Sequence[Type]:
    batch = None if s.x.shape is None else (s.x.shape[0], s["sample_size"])
    return [(DType(s["dtype"]), batch)]


def _random(op: str, infer: Any, inputs: Sequence[str] = (), **attrs: Any) -> Card:
    made = {"seed": None, **attrs}
    return opaque(op, REASON, inputs=inputs, outputs=("output",), infer=infer, attrs=made)


INPUT = ("input",)
NORMAL: Mapping[str, Any] = {"mean": 0.0, "scale": 1.0}
UNIFORM: Mapping[str, Any] = {"low": 0.0, "high": 1.0}

CARDS = (
    _random("RandomNormal", _drawn, dtype="float32", shape=REQUIRED, **NORMAL),
    _random("RandomUniform", _drawn, dtype="float32", shape=REQUIRED, **UNIFORM),
    _random("RandomNormalLike", _drawn_like, INPUT, dtype=None, **NORMAL),
    _random("RandomUniformLike", _drawn_like, INPUT, dtype=None, **UNIFORM),
    _random("Bernoulli", _drawn_like, INPUT, dtype=None),
    _random("Multinomial", _samples, INPUT, dtype="int32", sample_size=1),
)
