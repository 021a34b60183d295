"""What a model is made of, and what gradcli knows of operators: as text, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradcli.graph import Shape
from gradcli.inspection import Coverage, Death, Flow, Inspection, Tensor, Used
from gradcli.report.cells import Fact, Tone
from gradcli.report.jsonform import dumps
from gradcli.report.shortening import shortened_facts
from gradcli.report.terminal import facts, laid_out

SCHEMA_VERSION = 1

TONES: dict[str, Tone] = {"no card": "bad", "opaque": "odd", "flat": "odd"}

LISTED = 8
"""Ends of a derivative that are listed one by one; JSON has all of them."""


# ---- a model ------------------------------------------------------------------------------------


def inspection_text(found: Inspection, *, width: int = 80, color: bool = False) -> str:
    """What a model is made of, for a screen.

    Args:
        found: The inspection.
        width: Columns of the screen.
        color: Whether to colour it with ANSI codes.
    """
    digits = max((len(f"{used.count:,}") for used in found.operators), default=0)
    operators = [
        Fact("operators", _used(used, digits), TONES.get(used.nature, "plain"))
        for used in found.operators
    ]
    flows = [fact for flow in found.flows for fact in _flow(flow)]
    head = list(_head(found))
    told = shortened_facts([*head, *operators, *flows])
    start, end = len(head), len(head) + len(operators)
    parts = (told[:start], told[start:end], told[end:])
    return laid_out(*map(facts, parts), width=width, color=color)


def _head(found: Inspection) -> Iterator[Fact]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in sorted(found.opsets.items()))
    made = f", written by {found.producer}" if found.producer else ""
    yield Fact("model", f"{found.path}  (sha256 {found.sha256[:12]})")
    yield Fact("file", f"{_bytes(found.file_bytes)}{made}; opset {opsets}")
    where = ", some in other files" if found.external else ""
    yield Fact(
        "size",
        f"{_count(found.nodes, 'operator')}; {_count(found.parameters, 'constant')} in "
        f"{_bytes(found.parameter_bytes)}{where}",
    )
    yield from (Fact("inputs", _tensor(t)) for t in found.inputs)
    if found.overridable:
        yield Fact("inputs", f"with a default: {', '.join(found.overridable)}")
    yield from (Fact("outputs", _tensor(t)) for t in found.outputs)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _bytes(number: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return _count(number, "byte")


def _tensor(t: Tensor) -> str:
    if t.sequence:
        return f"{t.name}: a sequence or an optional value, of {t.dtype.value}"
    return f"{t.name}: {t.dtype.value} {_shape(t.shape)}"


def _shape(shape: Shape | None) -> str:
    return "of unknown rank" if shape is None else f"[{', '.join(map(str, shape))}]"


def _used(used: Used, digits: int) -> str:
    said = "; slope taken at a kink: " if used.nature == "kinked" else ": "
    why = f"{said}{used.why}" if used.why else ""
    return f"{used.count:>{digits},} {used.op}  {used.nature}{why}"


def _flow(flow: Flow) -> Iterator[Fact]:
    label = "derivative"
    if flow.why:
        yield Fact(label, f"none with respect to {flow.input}: {flow.why}", "faint")
        return
    if flow.reaches:
        reached = f"of {', '.join(flow.reaches)} with respect to {flow.input}"
        if flow.unknown:
            yield Fact(label, f"{reached}: not without {', '.join(flow.unknown)}", "bad")
        else:
            yield Fact(label, reached, "good")
    if flow.independent:
        yield Fact(label, f"{', '.join(flow.independent)}: does not hang on {flow.input}", "faint")
    if flow.misses:
        yield Fact(label, f"of {', '.join(flow.misses)} with respect to {flow.input}: 0", "odd")
        yield from (Fact(label, f"  ends at {_death(d)}", "odd") for d in flow.deaths[:LISTED])
        if (more := len(flow.deaths) - LISTED) > 0:
            yield Fact(label, f"  and at {more} more nodes", "odd")


def _death(death: Death) -> str:
    operand = f", operand {death.operand}" if death.operand else ""
    return f"node {death.node!r} ({death.op}{operand}): {death.why}"


def inspection_json(found: Inspection) -> str:
    """The inspection as one JSON object."""
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "model": {
                "path": found.path,
                "sha256": found.sha256,
                "bytes": found.file_bytes,
                "producer": found.producer,
                "opsets": {k or "ai.onnx": v for k, v in found.opsets.items()},
                "external": found.external,
            },
            "inputs": [_tensor_json(t) for t in found.inputs],
            "overridable": list(found.overridable),
            "outputs": [_tensor_json(t) for t in found.outputs],
            "nodes": found.nodes,
            "parameters": found.parameters,
            "parameter_bytes": found.parameter_bytes,
            "operators": [
                {"op": u.op, "count": u.count, "nature": u.nature, "why": u.why}
                for u in found.operators
            ],
            "derivatives": [
                {
                    "wrt": flow.input,
                    "reaches": list(flow.reaches),
                    "zero": list(flow.misses),
                    "independent": list(flow.independent),
                    "unknown": list(flow.unknown),
                    "why": flow.why,
                    "ends": [
                        {"node": d.node, "op": d.op, "operand": d.operand, "why": d.why}
                        for d in flow.deaths
                    ],
                }
                for flow in found.flows
            ],
        }
    )


def _tensor_json(t: Tensor) -> dict[str, Any]:
    shape = None if t.shape is None else list(t.shape)
    return {"name": t.name, "dtype": t.dtype.value, "shape": shape, "sequence": t.sequence}


# ---- operators ----------------------------------------------------------------------------------


def coverage_text(known: Sequence[Coverage], *, width: int = 80, color: bool = False) -> str:
    """The operators that gradcli knows, for a screen."""
    said = [Fact(_full(c), _nature(c), TONES.get(c.nature, "plain")) for c in known]
    return laid_out(facts(said), f"{_count(len(known), 'operator')}", width=width, color=color)


def _full(c: Coverage) -> str:
    return c.op if c.domain == "ai.onnx" else f"{c.domain}::{c.op}"


def _nature(c: Coverage) -> str:
    if c.nature in ("flat", "opaque"):
        return f"{c.nature}: {'; '.join(c.flat.values())}"
    parts = [f"{c.nature} in {', '.join(c.differentiable) or 'nothing'}"]
    if c.convention:
        parts.append(f"at a kink: {c.convention}")
    if c.edge:
        parts.append(f"edge: {c.edge}")
    return "; ".join(parts)


def coverage_json(known: Sequence[Coverage]) -> str:
    """The operators that gradcli knows, as one JSON object."""
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "operators": [
                {
                    "domain": c.domain,
                    "op": c.op,
                    "kind": c.kind,
                    "nature": c.nature,
                    "differentiable": list(c.differentiable),
                    "flat": dict(c.flat),
                    "convention": c.convention,
                    "edge": c.edge,
                    "versions": list(c.versions),
                }
                for c in known
            ],
        }
    )


COVERAGE_HEAD = """\
# Operators

What gradcli knows of each ONNX operator, generated from its cards by `gradcli ops`. *Versions* are
the opsets, of those that are read, that gave the operator another form. The derivative of a *flat*
operator is zero almost everywhere, an *opaque* one has none, and that of a *kinked* one jumps: then
the convention says what is taken there. *Control flow*, and what handles sequences, is written out
at a point: it is differentiated as what stands there in its place.
"""


def coverage_markdown(known: Sequence[Coverage]) -> str:
    """The operators that gradcli knows, as a page."""
    lines = [COVERAGE_HEAD]
    for domain in dict.fromkeys(c.domain for c in known):
        here = [c for c in known if c.domain == domain]
        lines += [f"## {domain} ({len(here)})", ""]
        lines += ["| operator | kind | differentiable in | at kinks, or why flat | versions |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_line(c) for c in here]
        lines += [""]
    return "\n".join(lines)


def _line(c: Coverage) -> str:
    flat = c.nature in ("flat", "opaque")
    notes = [] if flat or not c.convention else [c.convention]
    notes += [why if flat else f"{name}: {why}" for name, why in c.flat.items()]
    cells = (
        c.op,
        c.kind if c.nature in ("smooth", c.kind) else f"{c.kind}, {c.nature}",
        ", ".join(c.differentiable) or "–",
        "; ".join(notes),
        ", ".join(map(str, c.versions)),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
