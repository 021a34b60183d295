"""What a derivative that was written as a model takes and gives, for a screen."""

from __future__ import annotations

from gradcli.exporting import Exported, Tensor
from gradcli.report.cells import Fact
from gradcli.report.terminal import facts, laid_out


def exported_text(made: Exported, path: str, *, width: int) -> str:
    """A few lines on the file.

    Args:
        made: The derivative.
        path: Where it lies.
        width: Columns.
    """
    proof = made.proof
    lines = [("wrote", f"{path}  ({len(made.data):,} bytes, the {made.operator})")]
    lines += [("input", _tensor(made, t)) for t in made.inputs]
    lines += [("output", _tensor(made, t)) for t in made.outputs]
    if made.shared:
        lines.append(("shared", f"{len(made.shared)} constants lie in the model's own data files"))
    if made.beside:
        lines.append(("beside", f"{path}.data  ({made.beside:,} bytes of constants)"))
    also = ", and rounding" if proof.is_rounding else ""
    held = f"its rules in float64 differ from {proof.witness}, which has none, by {proof.rules:.1e}"
    ran = f"the file in onnxruntime from those by {proof.error:.1e}"
    lines.append(("proven", f"{held}; {ran} (tolerance {proof.tolerance:.0e}{also})"))
    said = [Fact(label, text) for label, text in lines]
    return laid_out(facts(said), width=width, color=False)


def _tensor(made: Exported, tensor: Tensor) -> str:
    shape = made.shapes[tensor.name]
    dims = "?" if shape is None else "×".join("?" if _is_made(d) else str(d) for d in shape)
    zero = ", 0 everywhere" if tensor.name in made.zero else ""
    what = {
        "primal": "of the model",
        "tangent": f"tangent of {tensor.wrt}",
        "cotangent": f"cotangent of {tensor.of}",
        "derivative": _derivative(made, tensor),
    }[tensor.role]
    return f"{tensor.name} ({dims or 'a number'}): {what}{zero}"


def _is_made(dim: int | str) -> bool:
    return isinstance(dim, str) and dim.startswith("?")


def _derivative(made: Exported, tensor: Tensor) -> str:
    if made.operator == "jvp":
        return f"tangent of {tensor.of}"
    if made.operator == "vjp":
        return f"cotangent of {tensor.wrt}"
    if made.operator == "gradient":
        return f"gradient with respect to {tensor.wrt}"
    return f"Jacobian of {tensor.of} with respect to {tensor.wrt}"
