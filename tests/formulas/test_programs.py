"""Generated programs, run against reverse mode in float64."""

import ast
import ctypes
import re
import shutil
import subprocess
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli.errors import CannotError, UsageError
from gradcli.formulas import Language
from tests.cli.support import DIABETES, PHYSICS, SAMPLES, cli, refused
from tests.formulas import julia

KINKED = str(SAMPLES / "kinked.onnx")
TINY = [PHYSICS, KINKED]
HOSTILE = '"; system("rm")//'


def names(path):
    """(of, wrt), each with its shape; no sample has an unknown one but the batch."""
    graph = onnx.load(path).graph
    initial = {t.name for t in graph.initializer}

    def shaped(values):
        return {
            v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim]
            for v in values
            if v.name not in initial
        }

    return shaped(graph.output), shaped(graph.input)


def point(path, seed=0):
    # Numbers of float32: reverse mode takes the point in the file's own width.
    rng = np.random.default_rng(seed)
    shapes = names(path)[1].items()
    return {name: np.float64(rng.normal(size=shape).astype(np.float32)) for name, shape in shapes}


def jacobian(path, at):
    """By reverse mode, in float64."""
    return gradcli.jacobian(path, at, method="reverse", dtype="float64")


def by_python(source, at):
    scope: dict = {}
    exec(compile(source, "<formula>", "exec"), scope)
    return scope["formula"](*at.values())


def by_c(source, at, results, folder):
    """Results in the order of the signature, flat."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("there is no C compiler (cc) on this machine")
    (folder / "f.c").write_text(source)
    library = folder / "f.so"
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off"]
    command = [cc, *flags, "-shared", "-fPIC", "-o", str(library), str(folder / "f.c"), "-lm"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    arrays = [np.ascontiguousarray(x, np.float64) for x in at.values()]
    out = [np.full(size, np.nan) for size in results]
    pointer = ctypes.POINTER(ctypes.c_double)
    ctypes.CDLL(str(library)).formula(*(a.ctypes.data_as(pointer) for a in (*arrays, *out)))
    return out


def held(found, want, tolerance=1e-12):
    for name, array in want.items():
        of, wrt = name.split("/")
        got = found[f"d{of}_d{wrt}"]
        assert got.shape == array.shape
        scale = np.max(np.abs(array))
        assert np.max(np.abs(got - array)) <= tolerance * scale, name


@pytest.mark.parametrize("path", TINY)
@pytest.mark.parametrize("seed", [0, 1])
def test_python_agrees_with_reverse_mode(path, seed):
    at = point(path, seed)
    held(by_python(gradcli.formula(path, lang="python"), at), jacobian(path, at))


def test_python_agrees_on_a_larger_network():
    # 313 parameters, with softplus and standardised inputs: the piece of a choice, and tails.
    at = point(DIABETES)
    held(by_python(gradcli.formula(DIABETES, lang="python"), at), jacobian(DIABETES, at))


@pytest.mark.parametrize("path", [*TINY, DIABETES])
def test_c_agrees_with_reverse_mode(path, tmp_path):
    at = point(path)
    of, wrt = names(path)
    ys = [int(np.prod(shape)) for shape in of.values()]
    blocks = [y * int(np.prod(shape)) for y in ys for shape in wrt.values()]
    out = by_c(gradcli.formula(path, lang="c"), at, [*ys, *blocks], tmp_path)
    want = jacobian(path, at)
    keys = [f"{y}/{x}" for y in of for x in wrt]
    for key, found in zip(keys, out[len(ys) :], strict=True):
        error = np.max(np.abs(found - want[key].reshape(-1)))
        assert error <= 1e-12 * np.max(np.abs(want[key])), key


def test_the_programs_give_the_primal_too():
    at = point(PHYSICS)
    y = by_python(gradcli.formula(PHYSICS, lang="python"), at)["u"]
    # A difference quotient of the primal that was given is its derivative that was given.
    h = 1e-6
    ahead = {**at, "x": at["x"] + h}
    found = by_python(gradcli.formula(PHYSICS, lang="python"), ahead)["u"]
    want = jacobian(PHYSICS, at)["u/x"].item()
    assert abs((found.item() - y.item()) / h - want) < 1e-5


def test_weights_are_the_files_own_to_the_last_bit():
    weight = next(
        numpy_helper.to_array(t)
        for t in onnx.load(PHYSICS).graph.initializer
        if t.name == "u.weight"
    )
    source = gradcli.formula(PHYSICS, lang="c")
    for number in weight.reshape(-1):
        assert abs(float(number)).hex() in source


def test_julia_is_written_and_runs_where_it_is_installed(tmp_path):
    source = gradcli.formula(PHYSICS, lang="julia")
    # Read before run: it opens and ends what it opens, counts from 1, and assigns each name once.
    assert source.count("function formula(x, t)") == 1
    assert source.rstrip().endswith("end")
    assert "[0]" not in source
    assert source.count("(") == source.count(")")
    assigned = re.findall(r"^    (\w+) = ", source, re.MULTILINE)
    assert len(assigned) == len(set(assigned)) > 20
    julia = shutil.which("julia")
    if julia is None:
        pytest.skip("there is no julia on this machine: its text was read, not run")
    at = point(PHYSICS)
    call = f"r = formula([{at['x'].item()!r}], [{at['t'].item()!r}]); println(r.du_dx[1])"
    (tmp_path / "f.jl").write_text(f"{source}\n{call}\n")
    made = subprocess.run(
        [julia, str(tmp_path / "f.jl")], capture_output=True, text=True, check=True
    )
    want = jacobian(PHYSICS, at)["u/x"].item()
    assert abs(float(made.stdout) - want) <= 1e-12 * abs(want)


def test_julia_is_taken_by_a_parser(tmp_path):
    fatou = shutil.which("fatou")
    if fatou is None:
        pytest.skip("fatou, a linter of Julia, is not installed")
    for k, path in enumerate((PHYSICS, KINKED, DIABETES, hostile(tmp_path))):
        (tmp_path / f"f{k}.jl").write_text(gradcli.formula(path, lang="julia"))
    made = subprocess.run(
        [fatou, "lint", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout


def test_at_a_kink_a_program_has_the_convention(tmp_path):
    # 0.5 and -2 times 0: both units of relu stand at 0, where the piece that holds has slope 1.
    relu = [helper.make_node("Mul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    source = gradcli.formula(one_layer(relu), lang="python")
    at = {"x": np.zeros((1, 2))}
    np.testing.assert_array_equal(by_python(source, at)["dy_dx"], np.zeros((1, 2, 1, 2)))
    out = by_c(gradcli.formula(one_layer(relu), lang="c"), at, [2, 4], tmp_path)
    np.testing.assert_array_equal(out[1], np.zeros(4))


def test_a_reciprocal_is_a_quotient_and_julia_throws_nowhere():
    nodes = [
        helper.make_node("Log", ["x"], ["l"]),
        helper.make_node("Mul", ["l", "w"], ["m"]),
        helper.make_node("Reciprocal", ["m"], ["y"]),
    ]
    model = one_layer(nodes)
    assert "pow(" not in gradcli.formula(model, lang="c", of="m")
    assert "1.0/x[0]" in gradcli.formula(model, lang="c", of="m")
    # Of a negative number Julia's own log throws, and everybody else's is NaN.
    source = gradcli.formula(model, lang="julia")
    assert "= domain(log, x[1])" in source
    found = julia.run(source, np.array([-1.0, 2.0]))["y"]
    assert np.isnan(found[0, 0])
    assert np.isfinite(found[0, 1])


def one_layer(nodes):
    """Nodes from x [1, 2] to y [1, 2], with a weight w, as a file's bytes."""
    w = numpy_helper.from_array(np.array([[0.5, -2.0]], np.float32), "w")
    x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])] for name in ("x", "y"))
    graph = helper.make_graph(nodes, "made", x, y, [w])
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def hostile(folder, x=HOSTILE, y="lambda"):
    """y = tanh(w x), its names a stranger's."""
    w = numpy_helper.from_array(np.array([[0.5, -2.0]], np.float32), 'w*/ """ \\')
    nodes = [
        helper.make_node("Mul", [x, w.name], ["a\nimport os"], name="#{`id`}"),
        helper.make_node("Tanh", ["a\nimport os"], [y], name="}\\input{/etc/passwd}"),
    ]
    shape = [1, 2]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)],
        [w],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "made.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


NAMES = [
    (HOSTILE, "lambda"),
    ("sech", "tanh"),
    ("z1", "z"),
    ("x", "x "),
    ("dy_dx", "np"),
    ("é", "\\end{align*}"),
    ("linux", "NAN"),
    ('"""', "*/"),
    ("a" * 300, "a" * 299 + "b"),
    ("Vector", "permutedims"),
    ("domain", "sigmoid"),
    ("#=", "=#"),
]


@pytest.mark.parametrize(("x", "y"), NAMES)
def test_names_of_strangers_do_nothing(x, y, tmp_path):
    path = hostile(tmp_path, x, y)
    at = np.array([[0.25, 1.5]])
    want = jacobian(path, {gradcli.load(path).graph.inputs[0].name: at})
    (slopes,) = want.values()
    found = by_python(gradcli.formula(path, lang="python"), {"x": at})
    np.testing.assert_allclose(list(found.values())[1], slopes, rtol=1e-12, atol=1e-14)
    out = by_c(gradcli.formula(path, lang="c"), {"x": at}, [2, 4], tmp_path)
    np.testing.assert_allclose(out[1], slopes.reshape(-1), rtol=1e-12, atol=1e-14)
    read = julia.run(gradcli.formula(path, lang="julia"), at)
    np.testing.assert_allclose(list(read.values())[1], slopes, rtol=1e-12, atol=1e-14)
    source = gradcli.formula(path, lang="python")
    called = {ast.unparse(n.func) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)}
    assert called <= {
        *("np.asarray", "np.empty", "np.errstate", "np.exp", "np.abs", "np.tanh", "sech"),
        *(name for name in called if name.endswith(".reshape")),
    }
    for lang in get_args(Language)[1:]:
        source = gradcli.formula(path, lang=lang)
        assert source.isascii()
        assert not re.search(r"[^\n -~]", source)
    programs = {
        "//": gradcli.formula(path, lang="c"),
        "#": gradcli.formula(path, lang="julia"),
    }
    for comment, source in programs.items():
        lines = source.splitlines()
        # A backslash would continue a comment's line.
        assert not any("\\" in line or "??/" in line for line in lines)
        code = "\n".join(line for line in lines if not line.startswith((comment, "#include")))
        assert re.fullmatch(r"[A-Za-z0-9_\s(){}\[\].,;:*+/<>=?&^-]*", code)


def test_what_is_no_float_is_fixed_and_said(tmp_path):
    nodes = [helper.make_node("Gather", ["x", "ids"], ["y"], axis=0)]
    graph = helper.make_graph(
        nodes,
        "made",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    source = gradcli.formula(model.SerializeToString(), {"ids": np.array([2, 0])}, lang="python")
    assert "one value of ids" in " ".join(source.split())
    found = by_python(source, {"x": np.array([1.0, 2.0, 3.0])})
    np.testing.assert_array_equal(found["y"], [3.0, 1.0])
    np.testing.assert_array_equal(found["dy_dx"], [[0, 0, 1], [1, 0, 0]])


def test_too_large_a_network_names_the_limit():
    path = str(SAMPLES / "attention.onnx")
    with pytest.raises(CannotError, match=r"at most 1,500 parameters") as found:
        gradcli.formula(path, lang="c")
    assert "--wrt and --of" in found.value.hint
    refused(cli("formula", path, "--lang", "c"), "1,500", "4.9k parameters", code=3)


def test_a_program_is_not_written_in_matrices():
    with pytest.raises(UsageError, match="number by number"):
        gradcli.formula(PHYSICS, lang="c", form="matrix")
    with pytest.raises(UsageError, match="no language 'fortran'"):
        gradcli.formula(PHYSICS, lang="fortran")  # type: ignore[arg-type]


def test_the_suffix_chooses_the_language(tmp_path):
    path = tmp_path / "f.c"
    assert cli("formula", PHYSICS, "-o", str(path)).exit_code == 0
    assert path.read_text() == cli("formula", PHYSICS, "--lang", "c").stdout
