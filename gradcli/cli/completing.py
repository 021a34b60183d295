"""What a shell is told when somebody presses Tab: nothing, where anything goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from gradcli.onnxfile import Model

Tensors = Literal["inputs", "outputs", "all"]

MOST = 200
"""Names that are offered."""


class Known(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """A word, of which some are known; another one is refused where it is used.

    Args:
        words: Those to complete.
    """

    name = "text"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 # click's signature
        param: click.Parameter,  # noqa: ARG002 # click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Those that start so."""
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


class Tensor(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """The name of a tensor of MODEL, which the command line names before or after it.

    Args:
        which: Of which tensors names are completed.
        before: What comes before the file in NAME=FILE; empty where there is none.
    """

    name = "text"

    def __init__(self, which: Tensors, before: str = "") -> None:
        self._which = which
        self._before = before

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 # click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that start so; and files, where one may follow."""
        files = [CompletionItem(incomplete, type="file")] if self._before else []
        named = [name + self._before for name in _names(ctx, self._which)]
        found = [CompletionItem(name) for name in named if name.startswith(incomplete)]
        return found[:MOST] + files


def _names(ctx: click.Context, which: Tensors) -> list[str]:
    # Behind an option that still waits for its word, click leaves arguments where they are.
    given = (ctx.params.get("model"), *ctx.args)
    path = next((p for p in given if isinstance(p, str) and Path(p).is_file()), None)
    if path is None:
        return []
    from gradcli import api
    from gradcli.errors import GradcliError

    try:
        return _tensors(api.load(path), which)
    except (GradcliError, OSError, MemoryError):
        return []


def _tensors(model: Model, which: Tensors) -> list[str]:
    graph = model.graph
    inputs, outputs = ([v.name for v in values] for values in (graph.inputs, graph.outputs))
    if which == "inputs":
        return inputs
    inner = [v.name for node in graph.nodes for v in node.outputs if v is not None]
    return list(dict.fromkeys(outputs if which == "outputs" else [*inputs, *outputs, *inner]))
