"""gradcli from Python: the same questions as on the command line, arrays in and arrays out."""

from gradcli.api.asking import WIDTHS, Given, Source, ask, engine, load
from gradcli.api.comparing import compare
from gradcli.api.contrasting import diff
from gradcli.api.deriving import (
    METHOD,
    Derivative,
    Deriver,
    Program,
    by_name,
    derive,
    gradient,
    hold_primal,
    in_own_width,
    jacobian,
    jvp,
    prepare,
    vjp,
)
from gradcli.api.judging import Interrupted, judged
from gradcli.api.pointwise import judged_at
from gradcli.api.saving import derived, export, spare
from gradcli.api.settings import Settings
from gradcli.api.writing import formula, source_of

__all__ = [
    "METHOD",
    "WIDTHS",
    "Derivative",
    "Deriver",
    "Given",
    "Interrupted",
    "Program",
    "Settings",
    "Source",
    "ask",
    "by_name",
    "compare",
    "derive",
    "derived",
    "diff",
    "engine",
    "export",
    "formula",
    "gradient",
    "hold_primal",
    "in_own_width",
    "jacobian",
    "judged",
    "judged_at",
    "jvp",
    "load",
    "prepare",
    "source_of",
    "spare",
    "vjp",
]
