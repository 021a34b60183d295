"""Symbolic differentiation by SymPy: of the whole network where it is tiny, else node by node.

Both levels stand on the operators' `impl` alone. `expanded` writes the network as expressions
over shared subexpressions and compiles their derivatives to one function of floats; `factored`
finds each operator's local derivative and accumulates chains forward. `symbolic-plain` is what
people try first: SymPy's `diff` on the one expression that the network is when everything is
substituted.
"""

from __future__ import annotations

from gradcli.engines.base import Engine, Map, Options
from gradcli.errors import CannotError, UnsupportedError
from gradcli.problem import Problem

MOST_WORK = 20_000
"""Operations times passes through them that are expanded: one to two seconds of SymPy's time."""

MOST_PARAMETERS = 1500
"""Parameters of a network that is expanded."""

MOST_PLAIN = 300
"""Parameters of a network that plain `diff` is tried on."""


def _prepare(problem: Problem, options: Options) -> Map:
    # SymPy takes a third of a second to import: only when it is needed.
    from gradcli.engines.symbolic.expanded import Expanded
    from gradcli.engines.symbolic.factored import Factored
    from gradcli.engines.symbolic.size import measure

    size = measure(problem)
    if size is not None and size.parameters <= MOST_PARAMETERS and size.work <= MOST_WORK:
        try:
            return Expanded(problem, size)
        except (CannotError, UnsupportedError):
            # Something in it has no expression as a whole; its parts may have.
            pass
    directions = 1 if problem.operator == "jvp" else problem.columns
    return Factored(problem, min(directions, options.width))


def _prepare_plain(problem: Problem, options: Options) -> Map:
    del options  # nothing to choose
    from gradcli.engines.symbolic.plain import HINT, Plain
    from gradcli.engines.symbolic.size import measure

    size = measure(problem)
    if size is None:
        raise CannotError("the network is far too large to be one expression", HINT)
    if size.parameters > MOST_PLAIN:
        raise CannotError(
            f"plain diff ends at about {MOST_PLAIN} parameters; "
            f"this network has {size.parameters:,}",
            HINT,
        )
    try:
        return Plain(problem, size)
    except UnsupportedError as error:
        raise CannotError(error.message, HINT) from error
    except (RecursionError, SyntaxError, MemoryError) as error:
        # SymPy and Python's compiler both descend into an expression by calling themselves.
        raise CannotError("the expression is nested too deeply", HINT) from error


ENGINE = Engine(
    name="symbolic",
    about="SymPy: the expanded network where it is tiny, else node by node",
    mode="push",
    prepare=_prepare,
    uses="impl",
    imports=("sympy",),
)

PLAIN = Engine(
    name="symbolic-plain",
    about="SymPy's own diff on the fully expanded expression",
    mode="push",
    prepare=_prepare_plain,
    uses="impl",
    imports=("sympy",),
)
