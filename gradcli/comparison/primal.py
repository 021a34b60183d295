"""Whether gradcli computes the same function as the file."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gradcli.comparison.facts import (
    Primal,
)
from gradcli.engines.base import Arrays, Evidence, Nearby
from gradcli.graph import DType

PRIMAL_TOLERANCE = 10.0
"""Of the primal, in square roots of its type's epsilon: half of the digits, less one."""

PRIMAL_NOISE = 16.0
"""Of the primal, in three standard deviations of its rounding errors, where those were measured."""


def primal_of(evidence: Evidence) -> Primal:
    """Whether onnxruntime's outputs of the original bytes are those of the float64 interpreter."""
    if evidence.primal_reason:
        return Primal(False, math.inf, math.inf, "", None, evidence.primal_reason)
    held = hold_primal(evidence.file_primal, evidence.exact_primal, evidence.primal_noise)
    if held.matches and evidence.nearby:
        bad = [other for near in evidence.nearby if not (other := _hold_nearby(near)).matches]
        # Where the function's own rounding ties at one point, it does not at another.
        if len(bad) > evidence.nearby[0].steps:
            held = replace(bad[0], reason=f"at a point nearby, {bad[0].reason}")
    return replace(held, forward=evidence.forward)


def _hold_nearby(near: Nearby) -> Primal:
    """The same at a point nearby, where it need not have every output: what both have is held."""
    theirs, ours = (
        {name: np.asarray(y, np.float64) for name, y in outputs.items()}
        for outputs in (near.file_primal, near.exact_primal)
    )
    if any(theirs[name].shape != y.shape for name, y in ours.items()):
        return Primal(True, 0.0, 0.0)
    known = {name: np.isfinite(theirs[name]) & np.isfinite(y) for name, y in ours.items()}
    file_primal = {
        name: np.where(known[name], y, 0).astype(y.dtype) for name, y in near.file_primal.items()
    }
    exact = {name: np.where(known[name], y, 0.0) for name, y in ours.items()}
    return hold_primal(file_primal, exact, near.noise)


def hold_primal(file_primal: Arrays, our_primal: Arrays, noise: Arrays | None = None) -> Primal:
    """Hold outputs that gradcli computed against onnxruntime's, on the file's original bytes.

    Args:
        file_primal: onnxruntime's, by name of `of`, in the file's own widths.
        our_primal: gradcli's, in the width that was asked for.
        noise: Three standard deviations of the rounding errors in the file's own width, where
            known. They tell a slightly wrong operator from rounding; without them only half of the
            digits are held against each other.
    """
    worst = Primal(True, 0.0, 0.0)
    for name, our in our_primal.items():
        if name not in file_primal:
            return Primal(False, math.inf, math.inf, name, None, "onnxruntime gave no such output")
        ours = np.asarray(our, np.float64)
        given = np.asarray(file_primal[name])
        theirs = given.astype(np.float64)
        # A question may ask for fewer digits than the file has.
        eps = max(_eps(given), _eps(np.asarray(our)))
        if theirs.shape != ours.shape:
            return Primal(False, math.inf, math.inf, name, None, "the shapes differ")
        same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(theirs - ours))
        largest = float(np.max(gap, initial=0.0))
        size = float(np.max(np.abs(ours[np.isfinite(ours)]), initial=0.0))
        relative = largest / size if size else (0.0 if largest == 0.0 else math.inf)
        bound = PRIMAL_TOLERANCE * math.sqrt(eps) * size + 1e-30
        if noise is not None and np.all(np.isfinite(noise[name])):
            rounding = PRIMAL_NOISE * float(np.max(noise[name], initial=0.0))
            bound = rounding + 64 * eps * size + 1e-30
        if not largest <= bound:
            return Primal(
                False,
                largest,
                relative,
                name,
                None,
                _apart(theirs, ours),
            )
        if relative >= worst.max_rel_error:
            worst = Primal(True, largest, relative, name)
    return worst


def _apart(theirs: np.ndarray, ours: np.ndarray) -> str:
    """Why two outputs do not match: one of them is no number, or they are different ones."""
    for who, x, other in (("onnxruntime", theirs, ours), ("gradcli", ours, theirs)):
        if count := int(np.sum(~np.isfinite(x) & np.isfinite(other))):
            are = "element is" if count == 1 else "elements are"
            return f"{count:,} {are} infinite or no number in {who} only"
    return "onnxruntime on the file and gradcli give different outputs"


def _eps(array: np.ndarray) -> float:
    """Of the arithmetic: what is stored in 8 bits or fewer was computed in float32."""
    dtype = DType.of(array)
    return (DType.FLOAT32 if dtype.is_float and array.dtype.itemsize == 1 else dtype).eps
