"""gradcli from Python: the same questions as on the command line, arrays in and arrays out."""

from gradcli.api.asking import WIDTHS, Given, Source, ask, engine, load
from gradcli.api.comparing import compare, judged
from gradcli.api.deriving import (
    METHOD,
    Derivative,
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

__all__ = [
    "METHOD",
    "WIDTHS",
    "Derivative",
    "Given",
    "Program",
    "Source",
    "ask",
    "by_name",
    "compare",
    "derive",
    "engine",
    "gradient",
    "hold_primal",
    "in_own_width",
    "jacobian",
    "judged",
    "jvp",
    "load",
    "prepare",
    "vjp",
]
