"""Formulas in which every number stands: of tiny networks, to be read or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from gradcli.errors import CannotError, UnsupportedError
from gradcli.formulas.names import Names
from gradcli.problem import Problem

if TYPE_CHECKING:
    from gradcli.engines.symbolic.closed import Closed

MOST_PARAMETERS = 1500
"""Parameters of a network that is written out number by number."""

MOST_WORK = 50_000
"""Operations times passes through them that are written out: some seconds of SymPy's time."""

NO_FORM = "there is no closed form: "

HINT = (
    "ask for a part without it with --wrt and --of, or for matrices: --form matrix with --lang text"
    " or latex"
)


@dataclass(frozen=True)
class Array:
    """A tensor of a formula.

    Attributes:
        name: An identifier.
        shape: Its shape.
        label: What the tensor, or the derivative, is called in the file.
    """

    name: str
    shape: tuple[int, ...]
    label: str

    @property
    def size(self) -> int:
        """How many numbers it has."""
        size = 1
        for d in self.shape:
            size *= d
        return size


@dataclass(frozen=True)
class Signature:
    """What a formula takes and gives.

    Attributes:
        inputs: Float inputs, in the order of the problem's graph.
        outputs: One for each of `of`.
        derivatives: For each of `of` one for each of `wrt`.
        stem: A stem for names of what is in between.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    derivatives: tuple[tuple[Array, ...], ...]
    stem: str


def signature(problem: Problem) -> Signature:
    """Identifiers for all tensors that a formula of a problem takes and gives."""
    names = Names()
    graph = problem.exact
    inputs = tuple(
        Array(names.give(v.name), problem.shape(v.name), v.name)
        for v in graph.inputs
        if v.dtype.is_float
    )
    by_label = {array.label: array for array in inputs}
    outputs = tuple(Array(names.give(name), problem.shape(name), name) for name in problem.of)
    derivatives = tuple(
        tuple(
            Array(
                names.give(f"d{y.name}_d{by_label[name].name}"),
                (*y.shape, *problem.shape(name)),
                f"d {y.label} / d {name}",
            )
            for name in problem.wrt
        )
        for y in outputs
    )
    return Signature(inputs, outputs, derivatives, names.free("z"))


def write_out(
    problem: Problem,
    language: str,
    sign: Signature,
    element: Callable[[Array, int], str],
    slope: Callable[[Array, Array, Array, int, int], str],
    *,
    stem: str,
    inline: bool,
) -> Closed:
    """Every number of the outputs and of their derivatives, as assignments.

    Args:
        problem: What is differentiated.
        language: `text`, `latex`, `python`, `c` or `julia`.
        sign: Of the formula.
        element: How the k-th element of an array is written.
        slope: How the derivative of an output's i-th element in an input's j-th is.
        stem: Of names of what is in between.
        inline: Whether what is used once is put where it is used.

    Raises:
        CannotError: When the network is too large, or has no closed form.
    """
    from gradcli.engines.symbolic.closed import closed
    from gradcli.engines.symbolic.size import measure

    size = measure(problem)
    if size is None or size.parameters > MOST_PARAMETERS or size.work > MOST_WORK:
        what = "it has far more" if size is None else f"it has {size}, {size.work:,} in all"
        raise CannotError(
            f"the network is too large to be written out number by number: at most"
            f" {MOST_PARAMETERS:,} parameters, and {MOST_WORK:,} operations with the passes of"
            f" its derivatives; {what}",
            "ask for a part with --wrt and --of, or for matrices: --form matrix with --lang text"
            " or latex",
        )
    by_label = {array.label: array for array in sign.inputs}
    wrt = [by_label[name] for name in problem.wrt]
    places = [(x, j) for x in wrt for j in range(x.size)]
    rows = [(k, y, i) for k, y in enumerate(sign.outputs) for i in range(y.size)]
    blocks = [dict(zip(wrt, row, strict=True)) for row in sign.derivatives]
    try:
        return closed(
            problem,
            language,
            [element(x, j) for x in sign.inputs for j in range(x.size)],
            stem,
            [element(y, i) for _, y, i in rows],
            [slope(blocks[k][x], y, x, i, j) for (k, y, i), (x, j) in product(rows, places)],
            inline=inline,
        )
    except (CannotError, UnsupportedError) as error:
        said = error.message.removeprefix(NO_FORM)
        raise CannotError(f"{NO_FORM}{said}", error.hint or HINT) from error


def index(k: int, shape: Sequence[int]) -> list[int]:
    """The place of the k-th element of an array, row-major."""
    place = []
    for d in reversed(shape):
        k, at = divmod(k, d)
        place.append(at)
    return place[::-1]


def constants(problem: Problem) -> int:
    """How many float parameters the network has."""
    return sum(a.size for v, a in problem.exact.constants.items() if v.dtype.is_float)
