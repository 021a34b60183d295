"""Every operator as a program: run in Python and in C, off kinks and on them."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from gradcli.engines import ENGINES, Program
from gradcli.engines.symbolic.size import measure
from gradcli.errors import CannotError
from gradcli.formulas import formula
from gradcli.graph import DType
from gradcli.ops import OPS
from gradcli.problem import Key, Problem
from tests.formulas import julia
from tests.ops.checks import applied, draw
from tests.ops.rows import TABLE

MOST_WORK = 5_000
"""Of the cases that are tried: what is larger is no other formula, but a longer one."""

SHORT = 1_000
"""The work of a case that is compiled besides."""

ROWS = [row for op, row in TABLE.items() if OPS[op].kind not in {"flat", "opaque"}]

REFUSED = {
    "TopK": "which element is the greatest",
    "GridSample": "has no value",
    "RoiAlign": "has no value",
    "DeformConv": "has no value",
    "com.microsoft::DynamicQuantizeMatMul": "has no value",
    "com.microsoft::DynamicQuantizeLSTM": "has no value",
    "Cast": "narrower float type",
}
"""Operators that look their operands up, or round them: why no expression says what they do."""


@dataclass(frozen=True)
class Posed:
    """One node at a point, and what reverse mode says of it.

    Attributes:
        problem: Its Jacobian.
        want: Of each output and input, a block.
    """

    problem: Problem
    want: Mapping[Key, np.ndarray]


def posed(a):
    """The case as a problem, or None where it asks for nothing that a formula could give."""
    shapes = [v.shape for v in (*a.graph.inputs, *a.graph.outputs)]
    known = all(s is not None and all(isinstance(d, int) for d in s) for s in shapes)
    of = [name for name in a.smooth if known and np.isfinite(a.primal()[name]).all()]
    if not a.feeds or not of:
        return None
    problem = Problem(
        None, a.graph, tuple(a.feeds), tuple(of), "jacobian", a.feeds, {}, {}, DType.FLOAT64
    )
    size = measure(problem)
    if size is None or size.work > MOST_WORK:
        return None
    return Posed(problem, Program(ENGINES["reverse"], problem).run().blocks)


def cases(row):
    """Two random ones and those on kinks."""
    drawn = [draw(row, 0), draw(row, 1), *(applied(row, kink.case) for kink in row.kinks)]
    return [found for found in map(posed, drawn) if found is not None]


def short(row):
    """Those that a compiler reads soon, else the shortest: Python is tried with all of them."""
    found = [(one, measure(one.problem)) for one in cases(row)]
    sized = [(one, size.work) for one, size in found if size is not None]
    most = max(SHORT, min((work for _, work in sized), default=0))
    return [one for one, work in sized if work <= most]


def held(found, posed):
    """Each block that a program gives, against reverse mode."""
    for block, (key, want) in zip(found, posed.want.items(), strict=True):
        scale = np.max(np.abs(want[np.isfinite(want)]), initial=0.0)
        np.testing.assert_allclose(
            np.reshape(block, want.shape), want, rtol=0, atol=1e-12 * scale, err_msg=str(key)
        )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
def test_programs_agree_with_reverse_mode_on_kinks_too(row):
    for one in cases(row):
        if row.op in REFUSED and one.problem.rows:
            with pytest.raises(
                CannotError, match=rf"no closed form: node '\w+' \(.*{REFUSED[row.op]}"
            ) as found:
                formula(one.problem, "python")
            assert "--form matrix" in found.value.hint
            continue
        source = formula(one.problem, "python")
        scope: dict = {}
        exec(compile(source, "<formula>", "exec"), scope)
        made = list(scope["formula"](*one.problem.point.values()).values())
        held(made[len(one.problem.of) :], one)
        read = list(julia.run(formula(one.problem, "julia"), *one.problem.point.values()).values())
        held(read[len(one.problem.of) :], one)


def test_c_agrees_with_reverse_mode_on_kinks_too(tmp_path):
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("there is no C compiler (cc) on this machine")
    programs: list[tuple[str, Posed]] = []
    text = ""
    for row in ROWS:
        for one in () if row.op in REFUSED else short(row):
            k = len(programs)
            made = formula(one.problem, "c")
            # All in one file: a compiler starts slowly.
            words = ["formula", *re.findall(r"^static double (\w+)", made, re.MULTILINE)]
            text += "".join(f"#define {word} {word}{k}\n" for word in words) + made
            text += "".join(f"#undef {word}\n" for word in words)
            programs.append((f"formula{k}", one))
    assert len(programs) > 300
    (tmp_path / "all.c").write_text(text)
    library = str(tmp_path / "all.so")
    flags = ["-std=c99", "-O0", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off"]
    command = [cc, *flags, "-shared", "-fPIC", "-o", library, str(tmp_path / "all.c"), "-lm"]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    pointer = ctypes.POINTER(ctypes.c_double)
    for name, one in programs:
        given = [np.ascontiguousarray(x, np.float64) for x in one.problem.point.values()]
        ys = [np.empty(one.problem.shape(y)) for y in one.problem.of]
        blocks = [np.full(want.shape, np.nan) for want in one.want.values()]
        function = getattr(ctypes.CDLL(library), name)
        function(*(a.ctypes.data_as(pointer) for a in (*given, *ys, *blocks)))
        held(blocks, one)
