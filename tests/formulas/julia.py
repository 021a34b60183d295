"""The few words of Julia that generated programs use, run by Python: no Julia is at hand.

Where Julia differs from Python it is Julia that counts: indices begin at 1 and are checked, arrays
are column-major, and functions throw outside their domain.
"""

import math
import re

import numpy as np
from scipy import special

_THROWS = {
    "log": lambda x: x < 0,
    "log1p": lambda x: x < -1,
    "sqrt": lambda x: x < 0,
    "asin": lambda x: abs(x) > 1,
    "acos": lambda x: abs(x) > 1,
    "acosh": lambda x: x < 1,
    "atanh": lambda x: abs(x) > 1,
}
_PLAIN = ("exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "floor", "abs", "sign")


class DomainError(Exception):
    """What Julia throws."""


class Vector:
    """Elements 1 to n, undefined until assigned."""

    def __init__(self, numbers):
        self.numbers = np.array(numbers, np.float64)

    def __getitem__(self, k):
        assert 1 <= k <= self.numbers.size
        return self.numbers[k - 1]

    def __setitem__(self, k, number):
        assert 1 <= k <= self.numbers.size
        self.numbers[k - 1] = number


def _throwing(name):
    numpy_name = name.replace("a", "arc", 1) if name.startswith("a") else name

    def of(x):
        if _THROWS[name](x):
            raise DomainError(name)
        return getattr(np, numpy_name)(x)

    return of


def _power(x, y):
    if x < 0 and not float(y).is_integer():
        raise DomainError("^")
    return np.float64(x) ** y


def _domain(f, *v):
    try:
        return f(*v)
    except DomainError:
        return math.nan


def _reshape(x, *shape):
    return np.reshape(x.numbers, shape, order="F")


def _permutedims(x, perm):
    return np.transpose(x, [p - 1 for p in perm])


WORDS = {
    **{name: getattr(np, name) for name in _PLAIN},
    **{name: _throwing(name) for name in _THROWS},
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "power": _power,
    "domain": _domain,
    "max": lambda x, y: math.nan if math.isnan(x) or math.isnan(y) else max(x, y),
    "sech": lambda x: 1 / np.cosh(x),
    "sigmoid": special.expit,
    "erf": special.erf,
    "erfc": special.erfc,
    "reshape": _reshape,
    "permutedims": _permutedims,
    "Vector": Vector,
    "Inf": math.inf,
    "NaN": math.nan,
}
"""What the programs call."""


def _chosen(text):
    """`(c ? a : b)` as Python writes it, from the inside out."""
    inner = re.compile(r"\(([^()]*)\)")
    held = []

    def hold(match):
        body = match[1]
        if " ? " in body:
            condition, rest = body.split(" ? ", 1)
            one, other = rest.split(" : ", 1)
            body = f"{one} if {condition} else {other}"
        held.append(f"({body})")
        return f"\x00{len(held) - 1}\x01"

    while inner.search(text):
        text = inner.sub(hold, text)
    while "\x00" in text:
        text = re.sub("\x00(\\d+)\x01", lambda m: held[int(m[1])], text)
    return text


def _python(text):
    text = re.sub(r"\bdomain\(\^,", "domain(power,", text)
    text = text.replace("&&", " and ").replace("||", " or ").replace("^", "**")
    return re.sub(r"!(?!=)", " not ", _chosen(text))


def run(source, *arrays):
    """The results of a program by name, as arrays in Julia's order of elements."""
    assert source.rstrip().endswith("\nend")
    found = re.search(r"\nfunction formula\((.*?)\)\n(.*)\nend\n$", source, re.DOTALL)
    assert found
    head, body = found.groups()
    steps, ends = body.split("    return (\n")
    scope = dict(WORDS)
    names = head.split(", ") if head else []
    for name, array in zip(names, arrays, strict=True):
        scope[name] = Vector(np.reshape(array, -1))
    steps = re.sub(r"Vector\{Float64\}\(undef, (\d+)\)", r"Vector([math.nan] * \1)", steps)
    scope["math"] = math
    code = re.sub(r"\n {8}", " ", steps)
    code = re.sub(r"\n {4}\)\n", ")\n", code)
    with np.errstate(all="ignore"):
        for line in filter(None, map(str.strip, code.splitlines())):
            exec(_python(line), scope)
        results = {}
        for line in ends.rstrip().removesuffix(")").rstrip().splitlines():
            name, term = line.strip().rstrip(",").split(" = ")
            made = eval(term, scope)
            results[name] = made.numbers if isinstance(made, Vector) else made
    return results
