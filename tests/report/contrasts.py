"""Two models held against each other, made by hand: what the reports of `diff` are tested on."""

from __future__ import annotations

import math
from dataclasses import replace

from gradcli.contrast import Block, Contrast, Departure

ALIKE = Block(
    *("y", "", (1, 4), 2.5, 1e-7, 2e-7, 4e-6, 0.025, True, False, (0, 1), 1.5, 1.5000001, 1.0),
    *(0, 4, 4, 0),
)
OFF = replace(
    ALIKE,
    wrt="x",
    shape=(1, 4, 3),
    difference=0.25,
    excess=6.25e4,
    same=False,
    index=(0, 1, 2),
    second=1.75,
    cosine=0.875,
    sign_changes=3,
    top=10,
    overlap=7,
)
PARTED = Departure(
    *("value", "t1", "conv", "Conv", "fused", "com.microsoft::FusedConv", ("w",)),
    *("t0", ("a", "b", "c", "d"), True, 0.5, 2.0),
)


def differ() -> Contrast:
    """The derivative is another one, from a node on."""
    back = replace(PARTED, what="cotangent", tensor="t9", node="gemm", op="Gemm", constants=())
    return Contrast(
        *("a.onnx", "b.onnx", "jacobian", (ALIKE,), (OFF,), PARTED, back, 7, None, ""),
        notes=("inputs are matched by position: x is z",),
    )


def same() -> Contrast:
    """Nothing differs."""
    block = replace(ALIKE, wrt="x", of="", shape=(2,), index=(1,))
    return Contrast("a.onnx", "b.onnx", "gradient", (ALIKE,), (block,), None, None, 0, 1e-3, "", ())


def undecided() -> Contrast:
    """The derivative is another one, and the point lies on a kink."""
    found = replace(differ(), undecided="the point lies on a kink", value=None, cotangent=None)
    return replace(found, derivative=(replace(OFF, cosine=math.nan, difference=math.inf),))


def coarse() -> Contrast:
    """Rounding explains a difference as large as the derivative."""
    block = replace(OFF, same=True, unclear=True, excess=0.5)
    return replace(undecided(), undecided="rounding alone may do that", derivative=(block,))


def named(name: str) -> Contrast:
    """All that differs has one name."""
    departed = replace(
        PARTED, tensor=name, node=name, other_node=name, constants=(name,), equals=(name,) * 4
    )
    block = replace(OFF, of=name, wrt=name)
    return Contrast(
        name, name, "jacobian", (replace(ALIKE, of=name),), (block,), departed, None, 1, None, "",
        (name,),
    )  # fmt: skip
