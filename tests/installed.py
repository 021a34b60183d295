"""What the installed onnx can do: tests skip what an older one cannot, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib.util import find_spec
from typing import Any

import onnx
import pytest

from gradcli.onnxfile import MAX_OPSET, schemas

NEWEST = schemas.newest() >= MAX_OPSET
"""Whether it knows every opset that gradcli reads; then nothing is skipped."""

MISTAKEN = frozenset({"layout", "output_dtype", "precision"})
"""Attributes that the evaluator of onnx 1.21 does not take, or computes wrongly."""


def need_every_form() -> None:
    """Skip unless the installed onnx knows every opset that gradcli reads."""
    if not NEWEST:
        pytest.skip(f"the installed onnx does not know opset {MAX_OPSET}")


def need_form(op: str, opset: int, attrs: Collection[str] = (), domain: str = "") -> None:
    """Skip unless the installed onnx has this operator, with these attributes, at this opset."""
    if NEWEST:
        return
    if not onnx.defs.has(op, opset, domain):
        pytest.skip(f"the installed onnx does not know {op} of opset {opset}")
    lacking = set(attrs) - set(onnx.defs.get_schema(op, opset, domain).attributes)
    if lacking:
        pytest.skip(f"the installed onnx does not know {op}'s {', '.join(sorted(lacking))}")


def need_evaluator(attrs: Collection[str]) -> None:
    """Skip unless the evaluator of the installed onnx can be the oracle of these attributes."""
    if not NEWEST and (mistaken := MISTAKEN & set(attrs)):
        pytest.skip(f"the installed onnx's own evaluator mistakes {', '.join(sorted(mistaken))}")


DRAWS = find_spec("matplotlib") is not None and find_spec("jinja2") is not None
"""Whether an HTML report can be made."""

needs_html = pytest.mark.skipif(not DRAWS, reason="needs the extra `html`")


def formats(names: Iterable[str]) -> list[Any]:
    """Names of formats as parameters of a test; HTML skips without its extra."""
    return [pytest.param(name, marks=needs_html) if name == "html" else name for name in names]
