"""Symbolic differentiation by SymPy: of the whole network where it is tiny, else node by node.

Both levels stand on the operators' `impl` alone. `expanded` writes the network as expressions over
shared subexpressions and compiles their derivatives to one function of floats; `factored` finds each
operator's local derivative and accumulates chains forward. `symbolic-plain` is what people try first:
SymPy's `diff` on the one expression that the network is when everything is substituted.
"""

from __future__ import annotations

from gradcli.engines.base import Engine, Map, Options
from gradcli.problem import Problem


def _prepare(problem: Problem, options: Options) -> Map:
    # SymPy takes a third of a second to import: only when it is needed.
    from gradcli.engines.symbolic.factored import Factored

    directions = 1 if problem.operator == "jvp" else problem.columns
    return Factored(problem, directions)


ENGINE = Engine(
    name="symbolic",
    about="SymPy: the expanded network where it is tiny, else node by node",
    mode="push",
    prepare=_prepare,
    uses="impl",
)
