"""gradcli: the derivatives of saved neural networks, by several methods, each one measured.

    >>> import gradcli
    >>> point = {"x": [[0.25]], "t": [[0.5]]}
    >>> gradcli.gradient("physics.onnx", point)  # arrays by name
    >>> print(gradcli.compare("physics.onnx").verdict)  # several methods, each judged
    >>> program = gradcli.prepare("physics.onnx", operator="gradient", method="reverse")
    >>> program.run(point)  # again and again

Importing this package loads nothing else: NumPy, onnxruntime and the rest follow on first use.
"""

from __future__ import annotations

# As type checkers know it: importing typing is most of what importing this would take, and Ctrl-C
# shows Python's traceback until the command line is there to catch it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from gradcli.api import (
        Program,
        compare,
        diff,
        export,
        formula,
        gradient,
        jacobian,
        jvp,
        load,
        prepare,
        vjp,
    )
    from gradcli.comparison import Comparison
    from gradcli.errors import GradcliError
    from gradcli.onnxfile import Model

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "GradcliError",
    "Model",
    "Program",
    "compare",
    "diff",
    "export",
    "formula",
    "gradient",
    "jacobian",
    "jvp",
    "load",
    "prepare",
    "vjp",
]

_HOMES = {"Comparison": "comparison", "GradcliError": "errors", "Model": "onnxfile"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"gradcli.{_HOMES.get(name, 'api')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
