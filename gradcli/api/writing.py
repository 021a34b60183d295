"""The formula of a model and of its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradcli.api.asking import Given, Source, ask, load

if TYPE_CHECKING:
    from gradcli.formulas import Form, Language


def formula(
    model: Source,
    inputs: Given = None,
    *,
    lang: Language = "text",
    form: Form = "auto",
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> str:
    """The formula of a model's outputs and of their derivatives.

    Args:
        model: A path, the file's bytes, or a loaded model.
        inputs: Arrays by input name, or one array for a model of one input. They matter where a
            shape hangs on them, or the way that control flow goes; float inputs may be missing.
        lang: `text`, `latex`, or a function in `python`, `c` or `julia`.
        form: `expanded` for every number, `matrix` for tensors and layers by name, `auto` for what
            suits.
        wrt: Tensors to differentiate with respect to; default: the float inputs.
        of: Tensors, or elements such as `y[0,3]`, to differentiate; default: the float outputs.
        shapes: Shapes of inputs that are not given, by name.
        seed: Of what is drawn for those.

    Raises:
        GradcliError: For a model or a question that makes no sense.
        CannotError: When the network is too large to be written out, or has no closed form.
    """
    from gradcli.formulas import formula as write

    loaded = load(model)
    problem = ask(loaded, inputs, wrt=wrt, of=of, operator="jacobian", shapes=shapes, seed=seed)
    return write(problem, lang, form, source_of(problem.of, problem.wrt, loaded.path))


def source_of(of: Sequence[str], wrt: Sequence[str], path: str) -> str:
    """The first line of a formula."""
    return f"{', '.join(of)} of {path}, and its derivative with respect to {', '.join(wrt)}"
