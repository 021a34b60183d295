"""A derivative as a model of its own: made with open dimensions, described, and proven."""

from gradcli.exporting.derivative import Made, Tensor, derivative_graph
from gradcli.exporting.make import Exported, Form, exported
from gradcli.exporting.proof import Proof, prove

__all__ = [
    "Exported",
    "Form",
    "Made",
    "Proof",
    "Tensor",
    "derivative_graph",
    "exported",
    "prove",
]
