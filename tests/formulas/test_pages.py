"""Formulas for people. Those in text are run too: they are written as in NumPy."""

import math
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli.errors import UsageError
from gradcli.formulas.display import equations as equations_of
from gradcli.formulas.display import seen
from gradcli.formulas.layout import filled
from gradcli.formulas.names import Names, identifier, remark
from tests.cli.support import DIABETES, PHYSICS, POINT, SAMPLES, cli, refused, two_inputs
from tests.formulas.test_programs import HOSTILE, KINKED, NAMES, hostile, jacobian, names, point

EQUATION = re.compile(r"^ *(\S+) = (.*?)(?: +\[[0-9×]+\])?$")


def split(x, sizes=None, axis=0, num_outputs=None):
    ends = np.cumsum(sizes)[:-1] if sizes is not None else num_outputs
    return np.split(x, ends, axis)


def concat(*arrays, axis):
    return np.concatenate(arrays, axis)


def called():
    """What the text calls, in NumPy."""
    return {
        "concat": concat,
        "split": split,
        "where": np.where,
        "tanh": np.tanh,
        "exp": np.exp,
        "diag": lambda x: np.diag(x.reshape(-1).astype(np.float64)),
        "sech": lambda x: 1 / np.cosh(x),
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.logaddexp(x, 0),
        "nan": math.nan,
    }


def equations(text):
    """(target, right-hand side) of every equation, its lines joined."""
    joined = re.sub(r"\n {3,}(?=\S)", " ", text)
    found = []
    for line in joined.splitlines():
        match = EQUATION.match(line)
        if match:
            found.append((match[1], match[2].replace("^", "**")))
    return found


def run(text, scope):
    """All that the text assigns."""
    for target, term in equations(text):
        scope[target] = eval(term, called(), scope)
    return scope


def weights(path):
    graph = gradcli.load(path).graph
    return {
        identifier(v.name): np.float64(array)
        for v, array in graph.constants.items()
        if v.dtype.is_float
    }


@pytest.mark.parametrize("path", [PHYSICS, KINKED, DIABETES])
def test_matrices_give_the_derivatives_that_they_say(path):
    of, wrt = names(path)
    (y,) = of
    at = point(path)
    want = jacobian(path, at)
    text = gradcli.formula(path, form="matrix")
    rows = int(np.prod(of[y]))
    for x, shape in wrt.items():
        tangents = {f"{name}_dot": np.zeros(s) for name, s in wrt.items()}
        tangents[f"{x}_dot"] = np.random.default_rng(2).normal(size=shape)
        cotangent = np.random.default_rng(3).normal(size=of[y])
        scope = run(text, {**weights(path), **at, **tangents, f"{y}_bar": cotangent})
        full = want[f"{y}/{x}"].reshape(rows, -1)
        pushed = full @ tangents[f"{x}_dot"].reshape(-1)
        # 1e-6: weights of float32 that are written where they are used have their own digits.
        np.testing.assert_allclose(scope[f"{y}_dot"].reshape(-1), pushed, rtol=1e-6, atol=1e-9)
        pulled = cotangent.reshape(-1) @ full
        np.testing.assert_allclose(scope[f"{x}_bar"].reshape(-1), pulled, rtol=1e-6, atol=1e-9)


def test_a_chain_of_layers_is_a_product():
    at = point(KINKED)
    text = gradcli.formula(KINKED, form="matrix")
    line = " ".join(text[text.index("Jacobian") :].split())
    product = "logits_weight @ diag(pre_activation > 0.0) @ pre_activation_weight"
    assert line == f"Jacobian dlogits/dflower_mm = {product}"
    (zero,) = (name for name in names(KINKED)[1])
    given = {f"{zero}_dot": np.zeros((1, 4)), "logits_bar": np.zeros((1, 3))}
    scope = run(text, {**weights(KINKED), **at, **given})
    want = jacobian(KINKED, at)["logits/flower_mm"].reshape(3, 4)
    np.testing.assert_allclose(scope["dlogits/dflower_mm"], want, rtol=1e-12)


def test_no_product_is_claimed_where_there_is_no_chain():
    assert "Jacobian" not in gradcli.formula(PHYSICS, form="matrix")
    assert "Jacobian" not in gradcli.formula(str(SAMPLES / "attention.onnx"))


def test_the_closed_form_of_a_tiny_network():
    at = point(PHYSICS)
    text = gradcli.formula(PHYSICS)
    scope = run(text, {name: array.item() for name, array in at.items()})
    want = jacobian(PHYSICS, at)
    for name in ("x", "t"):
        assert abs(scope[f"du/d{name}"] - want[f"u/{name}"].item()) <= 1e-12
    # One line for each hidden unit, the output, and two derivatives.
    assert [target for target, _ in equations(text)] == [
        *(f"z{k}" for k in range(1, 7)),
        *("u", "du/dx", "du/dt"),
    ]


def test_elements_and_choices_are_written_out():
    text = gradcli.formula(KINKED, form="expanded", of="logits[0,2]", wrt="flower_mm")
    assert "max(z1, 0)" in text
    assert "where(z1 > 0, " in text
    assert text.count("flower_mm[0,3] = ") == 1


SAMPLED = ["attention", "digits", "kinked", "physics", "sequence"]


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("form", ["auto", "matrix"])
def test_text_fits_80_columns_and_cuts_no_number(name, form):
    path = str(SAMPLES / f"{name}.onnx")
    text = gradcli.formula(path, form=form)
    assert max(map(len, text.splitlines())) <= 80
    numbers = re.findall(r"\d+\.\d+(?:e-?\d+)?", text)
    assert all(repr(float(number)) == number for number in numbers)


def balanced(source):
    """Whether every bracket and environment of LaTeX is closed in its order."""
    opened = []
    closing = {"}": "{", ")": "(", "]": "["}
    for token in re.findall(r"\\begin\{[a-z*]+\}|\\end\{[a-z*]+\}|\\.|[{}()\[\]]", source):
        if token.startswith("\\begin"):
            opened.append(token[6:])
        elif token.startswith("\\end"):
            if not opened or opened.pop() != token[4:]:
                return False
        elif token in "{([":
            opened.append(token)
        elif token in closing and (not opened or opened.pop() != closing[token]):
            return False
    return not opened


def formulas(source):
    """Each row of every align, without its comments."""
    code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    blocks = re.findall(r"\\begin\{align\*\}(.*?)\\end\{align\*\}", code, re.DOTALL)
    return [row for block in blocks for row in re.split(r"\\\\\n", block)]


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("form", ["auto", "matrix"])
def test_latex_closes_what_it_opens(name, form):
    source = gradcli.formula(str(SAMPLES / f"{name}.onnx"), lang="latex", form=form)
    assert source.isascii()
    assert balanced(source)
    assert formulas(source)
    for row in formulas(source):
        # Brackets of a function's operands may be closed in a later line; TeX's own may not.
        assert balanced(re.sub(r"(?<!\\left)(?<!\\right)[()\[\]]", "", row))
        # A \left and its \right stand in one line of the display.
        assert row.count(r"\left") == row.count(r"\right")
        # Outside of words no underscore or caret without its braces, and no command's character.
        assert not re.search(r"[_^][^{]", row.replace(r"\_", ""))
        assert not re.search(r"[#$%~`]", row)


@pytest.mark.parametrize("form", ["auto", "matrix"])
def test_latex_is_taken_by_a_parser(form):
    mathtext = pytest.importorskip("matplotlib.mathtext", reason="matplotlib is not installed")
    parser = mathtext.MathTextParser("path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in formulas(gradcli.formula(PHYSICS, lang="latex", form=form)):
            plain = " ".join(row.replace("&", " ").replace(r"\quad", r"\ ").split())
            parser.parse(f"${plain}$")


@pytest.mark.parametrize(("x", "y"), NAMES)
def test_latex_of_a_strangers_names(x, y, tmp_path):
    path = hostile(tmp_path, x, y)
    for form in ("expanded", "matrix"):
        source = gradcli.formula(path, lang="latex", form=form)
        assert balanced("\n".join(formulas(source)))
        commands = set(re.findall(r"\\[A-Za-z]+", "\n".join(formulas(source))))
        assert commands <= {
            *("\\frac", "\\partial", "\\operatorname", "\\left", "\\right", "\\times", "\\quad"),
            *(
                "\\mathrm",
                "\\dot",
                "\\bar",
                "\\odot",
                "\\top",
                "\\overset",
                "\\bullet",
                "\\overline",
            ),
        }


def test_text_of_a_strangers_names_is_text(tmp_path):
    result = cli("formula", hostile(tmp_path, HOSTILE, "\x1b[31mred"))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_identifiers_differ_and_mean_nothing_else():
    names = Names()
    given = [
        names.give(name) for name in ("a.b", "a b", "a_b", "a/b", "for", "for_", "", "é", "__")
    ]
    assert given[:4] == ["a_b", "a_b_2", "a_b_3", "a_b_4"]
    assert len(set(given)) == len(given)
    assert all(name.isidentifier() and name.isascii() for name in given)
    assert identifier("lambda") == "lambda_"
    assert identifier("HUGE_VAL") == "HUGE_VAL_"
    assert identifier("/encoder/MatMul_output_0") == "encoder_MatMul"
    assert identifier("W1") == "W1"
    assert len(identifier("x" * 1000)) <= 32


def test_remarks_end_no_comment():
    assert remark('*/ \n\\ """ %') == "_/ __ ___ _"


def test_lines_are_cut_between_terms_only():
    assert filled(["x = 1.25", "- y", "+ z"], 10, "  ") == ["x = 1.25", "  - y + z"]
    assert filled(["1.25", "- y", "+ z"], 8, end=True) == ["1.25 -", "y + z"]
    assert filled(["12345678901234567890"], 10) == ["12345678901234567890"]


def written(*nodes, **arrays):
    """A network of x [2, 4], its last node making y [2, 4], as text in matrices and as LaTeX."""
    made = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    shape = (TensorProto.FLOAT, [2, 4])
    x, y = ([helper.make_tensor_value_info(name, *shape)] for name in ("x", "y"))
    graph = helper.make_graph(nodes, "made", x, y, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = model.SerializeToString()
    return [gradcli.formula(data, form="matrix", lang=lang) for lang in ("text", "latex")]


def test_a_derivative_that_is_zero_is_said_to_be():
    for text in written(helper.make_node("Sign", ["x"], ["y"])):
        assert " ".join(text.split()).count("there is no way") == 2
        assert max(map(len, text.splitlines())) <= 80
        assert "align*}\n\\end" not in text


def test_a_slice_to_the_end_and_names_of_functions():
    far = np.array([2**63 - 1])
    slices = helper.make_node("Slice", ["x", "one", "far"], ["mean"])
    last = helper.make_node("Mul", ["x", "mean"], ["y"])
    text, _ = written(slices, last, one=np.array([1]), far=far)
    assert "mean_ = slice(x, [1], [end]" in text
    assert "y = x * mean_" in text


def test_numbers_of_float32_have_the_digits_that_name_them_there():
    tenth = np.array(0.1, np.float32)
    product = helper.make_node("Mul", ["x", "tenth"], ["m"])
    leaky = helper.make_node("LeakyRelu", ["m"], ["y"], alpha=0.1)
    text, latex = written(product, leaky, tenth=tenth)
    assert "m = x * 0.1 " in text
    assert "LeakyRelu(m, alpha=0.1)" in text
    assert "0.1000" not in text + latex


def test_equations_share_their_columns():
    long = ["a" * 30, *(f"+ {'b' * 20}" for _ in range(3))]
    first, second = equations_of([("y", long, r"1 \times 4"), ("z" * 20, ["1"], "")])
    # Two columns beside it leave half a line, into which one term fits.
    assert first.count(r"\quad") == 3
    assert first.endswith(r"&& 1 \times 4")
    assert second == "z" * 20 + " &= 1"
    assert seen(r"\operatorname{tanh}\left(z_{1}\right)") == len("tanh(z1)")
    assert seen(r"\mathrm{block\_product}") == len("block_product")
    assert seen(r"\frac{\partial y_{0,2}}{\partial \mathrm{width}_{1}}") == len("d width1")


@pytest.mark.parametrize("name", ["physics", "kinked", "digits", "attention", "sequence"])
@pytest.mark.parametrize("form", ["auto", "matrix"])
def test_latex_is_set_without_a_line_too_wide(name, form, tmp_path):
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("there is no pdflatex on this machine")
    source = gradcli.formula(str(SAMPLES / f"{name}.onnx"), lang="latex", form=form)
    head = "\\documentclass{article}\\usepackage{amsmath}\\begin{document}\n"
    (tmp_path / "f.tex").write_text(f"{head}{source}\\end{{document}}\n")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "f.tex"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert made.returncode == 0, made.stdout
    wide = re.findall(r"Overfull \\[hv]box \(([0-9.]+)pt", made.stdout)
    assert all(float(width) < 5 for width in wide)


def test_inputs_are_not_asked_for(tmp_path):
    result = cli("formula", two_inputs(tmp_path / "m.onnx"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "dy[1]/da[1] = a_b[1]" in result.stdout


def test_the_commands_options_are_those_of_other_questions():
    given = cli("formula", PHYSICS, "--input", POINT, "--wrt", "t", "--lang", "text")
    assert given.stdout == gradcli.formula(PHYSICS, wrt="t")
    assert "du/dx" not in given.stdout
    refused(cli("formula", PHYSICS, "--wrt", "speed"), "speed")
    with pytest.raises(UsageError, match="no form 'short'"):
        gradcli.formula(PHYSICS, form="short")  # type: ignore[arg-type]
