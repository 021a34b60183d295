"""The machine-readable reports: raw facts, seconds, no rounding. `docs/json.md` describes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcli.comparison import (
    At,
    Blame,
    Comparison,
    Explanation,
    Judgement,
    KinkAt,
    Part,
    Primal,
    Reference,
    Subject,
    Sweep,
    Worst,
)
from gradcli.engines.base import Times, Unsteady

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def comparison_json(comparison: Comparison, *, command: str | None = None) -> str:
    """A comparison as one JSON object.

    Args:
        comparison: What to say.
        command: The command line that asks the same again, where there is one.
    """
    c = comparison
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "model": {"path": c.subject.path, "sha256": c.subject.sha256},
            "problem": _problem(c.subject),
            "primal": _primal(c.primal),
            "reference": _reference(c.reference),
            "methods": [method_fields(j) for j in c.methods],
            "kinks": [_kink(k) for k in c.kinks],
            "room": [vars(r) for r in c.room],
            "advice": [
                {"text": a.text, "method": a.method, "evidence": dict(a.evidence)} for a in c.advice
            ],
            "nondeterminism": [_unsteady(u) for u in c.unsteady],
            "explanation": _explanation(c.explanation),
            "sweeps": [_sweep(s) for s in c.sweeps],
            "points": [_at(at) for at in c.points],
            "worst_point": c.worst_point if c.points else None,
            "notes": list(c.notes),
            "unfinished": list(c.unfinished),
            "counts": dict(c.counts),
            "verdict": str(c.verdict),
            "exit_code": c.exit_code,
            "environment": vars(c.environment),
            "command": command,
        }
    )


def derivative_json(
    *,
    path: str,
    sha256: str,
    operator: str,
    method: str,
    dtype: str,
    blocks: Mapping[tuple[str, str], np.ndarray],
    notes: Sequence[str] = (),
) -> str:
    """A derivative as one JSON object: a list of blocks, each with its names apart.

    Args:
        path: The model file, printable.
        sha256: Of the file's bytes.
        operator: gradient, jacobian, jvp or vjp.
        method: What computed it.
        dtype: In which width.
        blocks: Arrays by (of, wrt); either name is empty where the operator has no such axis.
        notes: What was completed or is odd.
    """
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "model": {"path": path, "sha256": sha256},
            "operator": operator,
            "method": method,
            "dtype": dtype,
            "derivative": [
                {"of": of or None, "wrt": wrt or None, "shape": list(a.shape), "values": a.tolist()}
                for (of, wrt), a in blocks.items()
            ],
            "notes": list(notes),
        }
    )


def dumps(content: Mapping[str, Any]) -> str:
    """Standard JSON in ASCII: numbers in full, and those that JSON has no word for as strings."""
    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"


def plain(x: Any) -> Any:
    """What JSON has words for; numbers that are not finite as strings."""
    if isinstance(x, Mapping):
        return {str(key): plain(item) for key, item in x.items()}
    if isinstance(x, list | tuple):
        return [plain(item) for item in x]
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, float) and not math.isfinite(x):
        return NOT_FINITE[str(x)]
    return x


def _problem(s: Subject) -> dict[str, Any]:
    return {
        "operator": s.operator,
        "wrt": [{"name": name, "shape": shape} for name, shape in s.wrt.items()],
        "of": [{"name": name, "shape": shape} for name, shape in s.of.items()],
        "dtype": s.dtype,
        "nodes": s.nodes,
        "parameters": s.parameters,
        "seed": s.seed,
        "threads": s.threads,
        "provider": s.provider,
        "rtol": dict(s.rtol),
        "atol": s.atol,
    }


def _primal(p: Primal) -> dict[str, Any]:
    return {
        "matches": p.matches,
        "max_abs_error": p.max_abs_error,
        "max_rel_error": p.max_rel_error,
        "output": p.output,
        "forward": _times(p.forward),
        "reason": p.reason,
    }


def _reference(r: Reference) -> dict[str, Any]:
    return {
        "kind": r.kind,
        "witness": r.witness,
        "confirmed": r.confirmed,
        "elements": r.elements,
        "reason": r.reason,
        "bits": r.bits,
        "digits": r.digits if math.isfinite(r.digits) else None,
        "below": r.below,
        "opened": list(r.opened),
        "uncertified": r.uncertified,
    }


AT_A_POINT = (
    *("method", "status", "reason", "verdict", "cause", "max_abs_error", "max_rel_error"),
    *("correct_digits", "uncertainty", "needed_rtol"),
)
"""What is written of a method at each of several points."""


def _at(at: At) -> dict[str, Any]:
    """What came out at one of several points."""
    c = at.comparison
    methods = [method_fields(j) for j in c.methods]
    return {
        "label": at.label,
        "verdict": str(c.verdict),
        "exit_code": c.exit_code,
        "primal_matches": c.primal.matches,
        "methods": [{name: m[name] for name in AT_A_POINT} for m in methods],
    }


def method_fields(j: Judgement) -> dict[str, Any]:
    """One method, its numbers raw."""
    return {
        "method": j.method,
        "status": j.status,
        "reason": j.reason,
        "level": j.level,
        "dtype": j.dtype,
        "verdict": None if j.verdict is None else str(j.verdict),
        "cause": None if j.cause is None else str(j.cause),
        "detail": j.detail,
        "max_abs_error": j.max_abs_error,
        "max_rel_error": j.max_rel_error,
        "correct_digits": j.correct_digits,
        "uncertainty": j.uncertainty,
        "worst": _worst(j.worst),
        "counts": dict(j.counts),
        "zero": j.zero,
        "rtol": j.rtol,
        "needed_rtol": j.needed_rtol,
        "parts": [_part(p) for p in j.parts],
        "prepare": j.prepare,
        "run": _times(j.run),
        "times_forward": j.times_forward,
        "evaluations": j.evaluations,
        "sampled": j.sampled,
        "notes": list(j.notes),
    }


def _part(p: Part) -> dict[str, Any]:
    return {
        "name": p.name,
        "verdict": str(p.verdict),
        "cause": None if p.cause is None else str(p.cause),
        "counts": dict(p.counts),
        "max_abs_error": p.max_abs_error,
        "max_rel_error": p.max_rel_error,
        "correct_digits": p.correct_digits,
        "uncertainty": p.uncertainty,
        "zero": p.zero,
        "needed_rtol": p.needed_rtol,
    }


def _worst(w: Worst | None) -> dict[str, Any] | None:
    if w is None:
        return None
    return {
        "name": w.name,
        "index": w.index,
        "value": w.value,
        "reference": w.reference,
        "node": w.node,
        "sides": w.sides,
    }


def _times(t: Times | None) -> dict[str, Any] | None:
    if t is None:
        return None
    return {
        "median": t.median,
        "mean": t.mean,
        "stddev": t.stddev,
        "min": min(t.times),
        "max": max(t.times),
        "times": t.times,
    }


def _kink(k: KinkAt) -> dict[str, Any]:
    return {
        "kind": k.kind,
        "node": k.node,
        "op": k.op,
        "index": k.index,
        "margin": k.margin,
        "active": k.active,
        "certified": k.certified,
        "ties": k.ties,
        "active_ties": k.many,
        "operand": k.operand,
        "todo": k.todo,
        "convention": k.convention,
        "what": k.what,
        "decided": k.decided,
        "within": k.within,
        "slopes": [
            {"at": t.at, "gradcli": t.gradcli, "pytorch": t.pytorch, "jax": t.jax} for t in k.taken
        ],
        "jump": None
        if k.jump is None
        else {
            "name": k.jump.name,
            "index": k.jump.index,
            "below": k.jump.below,
            "above": k.jump.above,
            "certified": k.jump.certified,
        },
    }


def _unsteady(u: Unsteady) -> dict[str, Any]:
    return {
        "program": u.program,
        "threads": u.threads,
        "name": u.name,
        "index": u.index,
        "max_abs_difference": u.max_abs,
        "max_rel_difference": u.max_rel,
        "elements": u.elements,
    }


def _explanation(e: Explanation | None) -> dict[str, Any] | None:
    if e is None:
        return None
    return {
        "of": e.of,
        "method": e.method,
        "errors": dict(e.errors),
        "explained": dict(e.explained),
        "nodes": [_blame(b) for b in e.nodes],
        "looked": e.looked,
        "left": e.left,
        "notes": list(e.notes),
    }


def _blame(b: Blame) -> dict[str, Any]:
    return {
        "node": b.node,
        "op": b.op,
        "inner": b.inner,
        "what": str(b.what),
        "todo": b.todo,
        "ulps": b.ulps,
        "condition": b.condition,
        "errors": dict(b.errors),
        "exact": dict(b.exact),
        "shares": dict(b.shares),
        "held": b.held,
    }


def _sweep(s: Sweep) -> dict[str, Any]:
    return {
        "dtype": s.dtype,
        "directions": s.directions,
        "along": s.along,
        "elements": s.elements,
        "size": s.size,
        "floor": s.floor,
        "noise": s.noise,
        "sparse": s.sparse,
        "ladder": {"step": s.ladder_step, "error": s.ladder_error},
        "formulas": [
            {
                "method": f.method,
                "best": {"step": f.best_step, "error": f.best_error},
                "textbook": {"step": f.textbook_step, "error": f.textbook_error},
                "order": f.order,
                "kink": f.kink,
            }
            for f in s.formulas
        ],
        "points": [
            {
                "step": p.step,
                "forward": p.forward,
                "forward_along": p.forward_along,
                "central": p.central,
                "central_along": p.central_along,
                "kink_ahead": p.ahead,
                "kink_behind": p.behind,
            }
            for p in s.points
        ],
    }
