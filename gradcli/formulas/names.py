"""Names of a stranger's file as identifiers, the same in every language that formulas come in.

Whatever a tensor is called, only ASCII letters, digits and single underscores reach a program's
code; so no name can end a string, a comment or a statement, or stand for something else.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

LONGEST = 32
"""Characters of an identifier; longer names lose their middle."""

_C = """auto break case char const continue default do double else enum extern float for goto if
inline int long register restrict return short signed sizeof static struct switch typedef union
unsigned void volatile while bool true false complex imaginary alignas alignof asm typeof nullptr
constexpr thread_local main linux unix near far this new delete class template namespace using
private public protected try catch throw operator virtual friend export"""

_JULIA = """abstract baremodule begin break catch const continue do else elseif end export false
finally for function global if import in isa let local macro module mutable primitive quote return
struct true try using where while type Float64 Inf NaN pi im Vector undef
permutedims DomainError rethrow"""

_FUNCTIONS = """abs acos acosh asin asinh atan atanh cast ceil cos cosh diag domain erf erfc exp
expm1 fabs floor fmax formula log log1p math max min np nan inf pow reshape round sech sigmoid sign
sin sinh sqrt sum tan tanh where transpose clip concat expand flatten gather greater less mean none
not pad reciprocal relu slice softmax softplus split squeeze unsqueeze"""

RESERVED = frozenset(
    [*keyword.kwlist, *keyword.softkwlist, *_C.split(), *_JULIA.split(), *_FUNCTIONS.split()]
)
"""What means something in one of the languages, or in the formulas themselves."""


class Names:
    """Identifiers, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def give(self, name: str) -> str:
        """An identifier as like a name as can be, that nothing else has."""
        made = stem = identifier(name)
        k = 1
        while made in self._taken:
            k += 1
            made = f"{stem.rstrip('_')}_{k}"
        self._taken.add(made)
        return made

    def count(self, stem: str) -> str:
        """The stem and the first number that makes an identifier which nothing else has."""
        k = 1
        while f"{stem}{k}" in self._taken:
            k += 1
        self._taken.add(f"{stem}{k}")
        return f"{stem}{k}"

    def free(self, stem: str) -> str:
        """A stem such that no identifier given so far is the stem and a number."""
        while any(re.fullmatch(rf"{stem}\d*", name) for name in self._taken):
            stem += "z"
        return stem


def identifier(name: str) -> str:
    """A name with everything replaced that is no identifier in some language."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    word = re.sub(r"_output_0$", "", word)
    if len(word) > LONGEST:
        half = LONGEST // 2
        word = f"{word[: half - 1].rstrip('_')}_{word[-half:].lstrip('_')}"
    if not word or not word[0].isalpha():
        word = f"v{word}"
    # Capitals alone may be a macro of a compiler's.
    macro = len(word) > 1 and re.fullmatch(r"[A-Z][A-Z_0-9]*[A-Z_][A-Z_0-9]*", word)
    return f"{word}_" if word in RESERVED or macro else word


def remark(text: str) -> str:
    """Text for a comment: nothing in it ends a comment or continues a line, in any language."""
    return re.sub(r"[^A-Za-z0-9_.,:;=()\[\]/ +-]", "_", text)
