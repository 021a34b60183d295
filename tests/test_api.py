"""gradcli from Python."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper

import gradcli
from gradcli import api, engines, onnxfile
from gradcli.errors import CannotError, GradcliError, InputError, UnfitError, UsageError
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.report.rows import screen
from tests.cli.support import save_model

SAMPLES = Path(__file__).resolve().parents[1] / "sample_models"
PHYSICS = SAMPLES / "physics.onnx"
DIABETES = SAMPLES / "diabetes.onnx"


def point(name):
    with np.load(SAMPLES / f"{name}.npz") as arrays:
        return dict(arrays)


def test_everything_promised_is_there():
    for name in gradcli.__all__:
        assert getattr(gradcli, name) is not None
    assert set(gradcli.__all__) <= set(dir(gradcli))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gradcli.nothing


def test_type_checkers_and_the_interpreter_see_the_same_names():
    text = Path(gradcli.__file__).read_text(encoding="utf-8")
    block = text.split("if TYPE_CHECKING:\n")[1].split("\n__version__")[0]
    assert [name for name in gradcli.__all__ if name not in block] == []
    assert (Path(gradcli.__file__).parent / "py.typed").is_file()


def test_compare():
    progress: list[str] = []
    comparison = gradcli.compare(
        PHYSICS,
        point("physics"),
        methods=["forward", "complex-step"],
        runs=1,
        progress=progress.append,
    )
    assert [m.method for m in comparison.methods] == ["forward", "complex-step"]
    assert comparison.verdict == "AGREE"
    assert "forward" in progress


def test_a_model_may_be_a_path_or_bytes_or_loaded():
    inputs = point("physics")
    model = gradcli.load(PHYSICS)
    assert isinstance(model, gradcli.Model)
    assert gradcli.load(model) is model
    answers = [
        gradcli.gradient(source, inputs)
        for source in (PHYSICS, str(PHYSICS), PHYSICS.read_bytes(), model)
    ]
    for answer in answers[1:]:
        np.testing.assert_equal(answer, answers[0])


def test_gradient_against_differences():
    inputs = {name: x.astype(np.float64) for name, x in point("physics").items()}
    exact = gradcli.gradient(PHYSICS, inputs, dtype="float64")
    difference = gradcli.gradient(PHYSICS, inputs, method="finite-central")
    assert exact.keys() == {"x", "t"}
    for name, array in exact.items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, difference[name], rtol=1e-8)


def test_jacobian_is_of_shape_of_then_wrt():
    jacobian = gradcli.jacobian(SAMPLES / "digits.onnx", point("digits"))
    assert {name: a.shape for name, a in jacobian.items()} == {"logits/image": (1, 10, 1, 1, 8, 8)}


def test_jvp_and_vjp_are_the_jacobian_applied():
    model, inputs = SAMPLES / "digits.onnx", point("digits")
    rng = np.random.default_rng(0)
    dot, bar = rng.standard_normal((1, 1, 8, 8)), rng.standard_normal((1, 10))
    full = gradcli.jacobian(model, inputs, dtype="float64")["logits/image"].reshape(10, 64)
    pushed = gradcli.jvp(model, inputs, dot, dtype="float64")
    pulled = gradcli.vjp(model, inputs, {"logits": bar}, dtype="float64")
    np.testing.assert_allclose(pushed["logits"].reshape(-1), full @ dot.reshape(-1), rtol=1e-10)
    np.testing.assert_allclose(pulled["image"].reshape(-1), bar.reshape(-1) @ full, rtol=1e-10)


# ---- programs ------------------------------------------------------------------------------------


def program(**how):
    asked = {"operator": "gradient", "method": "reverse", "dtype": "float64"} | how
    return gradcli.prepare(DIABETES, **asked)


def at(x, **how):
    return gradcli.gradient(DIABETES, x, dtype="float64", **how)["patient"]


def test_a_program_runs_at_one_point_after_another_and_prepares_once(monkeypatch):
    made = []
    real = engines.Program

    def counted(*args):
        made.append(args)
        return real(*args)

    x = point("diabetes")["patient"]
    wanted = [at(x), at(x * 1.01)]
    monkeypatch.setattr("gradcli.api.deriving.EngineProgram", counted)
    p = program()
    assert made == []
    for array, want in zip((x, x * 1.01, x), (*wanted, wanted[0]), strict=True):
        np.testing.assert_array_equal(p.run(array)["patient"], want)
    assert len(made) == 1
    p.run(np.concatenate([x]))
    assert len(made) == 1


def test_a_program_given_inputs_is_ready_and_keeps_them_as_its_point():
    x = point("diabetes")["patient"]
    p = program(inputs=x)
    np.testing.assert_array_equal(p.run()["patient"], at(x))


def test_a_program_prepares_anew_for_other_shapes():
    x = point("diabetes")["patient"]
    p = program(operator="vjp", inputs=x)
    one = p.run(cotangent=np.ones((1, 1)))["patient"]
    two = p.run(np.concatenate([x, 2 * x]), cotangent=np.ones((2, 1)))["patient"]
    np.testing.assert_allclose(two[0], one[0], rtol=1e-12)
    np.testing.assert_allclose(two[1], at(2 * x)[0], rtol=1e-12)


def picker(tmp_path):
    """y = x[i] ** 2, i an input."""
    return save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node("Gather", ["x", "i"], ["picked"], name="pick"),
            helper.make_node("Mul", ["picked", "picked"], ["y"], name="square"),
        ],
        {"x": (TensorProto.FLOAT, [3]), "i": (TensorProto.INT64, [1])},
        {"y": (TensorProto.FLOAT, [1])},
    )


def test_a_program_sees_other_integers(tmp_path):
    p = gradcli.prepare(picker(tmp_path), operator="gradient", method="reverse")
    x = np.array([1.0, 2.0, 3.0])
    for i in range(3):
        want = np.zeros(3)
        want[i] = 2 * x[i]
        np.testing.assert_array_equal(p.run({"x": x, "i": np.array([i])})["x"], want)


def test_a_program_takes_the_branch_of_an_if_anew_at_every_point(tmp_path):
    def body(op: str) -> GraphProto:
        out = helper.make_tensor_value_info(op, TensorProto.FLOAT, [1])
        return helper.make_graph([helper.make_node(op, ["x"], [op])], op, [], [out])

    choice = {"then_branch": body("Exp"), "else_branch": body("Sin")}
    path = save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
            helper.make_node("Cast", ["top"], ["moved"], to=TensorProto.BOOL),
            helper.make_node("If", ["moved"], ["y"], name="fork", **choice),
        ],
        {"x": (TensorProto.FLOAT, [1])},
        {"y": (TensorProto.FLOAT, [1])},
    )
    p = gradcli.prepare(path, operator="gradient", method="reverse", dtype="float64")
    for x in (0.5, 0.0, 0.7, 0.9):
        want = np.exp(np.float32(x).astype(float)) if x else 1.0
        assert p.run(np.array([x], np.float32))["x"] == pytest.approx(want, rel=1e-12)


def test_a_program_with_respect_to_an_intermediate_tensor_sees_other_inputs(tmp_path):
    p = gradcli.prepare(picker(tmp_path), operator="gradient", method="reverse", wrt="picked")
    for x in ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]):
        found = p.run({"x": np.array(x), "i": np.array([1])})
        np.testing.assert_array_equal(found["picked"], [2 * x[1]])


def test_an_input_with_a_default_takes_what_it_is_given_and_prepares_anew():
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"], name="product")],
        "made",
        [helper.make_tensor_value_info(name, float32, [1]) for name in ("x", "w")],
        [helper.make_tensor_value_info("y", float32, [1])],
        [helper.make_tensor("w", float32, [1], [2.0])],
    )
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    p = gradcli.prepare(model, operator="gradient", method="reverse")
    for w in ({}, {"w": [5.0]}, {"w": [7.0]}, {}):
        assert p.run({"x": [1.0], **w})["x"] == w.get("w", [2.0])
    comparison = gradcli.compare(model, {"x": [1.0], "w": [5.0]}, methods="finite", runs=1)
    assert comparison.primal.matches
    assert comparison.methods[0].worst is not None
    assert comparison.methods[0].worst.reference == 5.0


def test_a_program_pushes_other_tangents():
    inputs = point("physics")
    p = gradcli.prepare(PHYSICS, operator="jvp", method="forward", inputs=inputs, dtype="float64")
    g = gradcli.gradient(PHYSICS, inputs, dtype="float64")
    for dx, dt in ((1.0, 0.0), (0.0, 1.0), (2.0, -3.0)):
        tangent = {"x": np.full((1, 1), dx), "t": np.full((1, 1), dt)}
        np.testing.assert_allclose(
            p.run(tangent=tangent)["u"], dx * g["x"] + dt * g["t"], rtol=1e-12
        )


def test_the_primal_is_held_once_at_the_point_of_the_first_run(monkeypatch):
    from gradcli import measure

    seen = []
    real = measure.file_primal

    def counted(problem, session=None):
        seen.append(problem.feeds["patient"])
        return real(problem, session)

    monkeypatch.setattr(measure, "file_primal", counted)
    x = point("diabetes")["patient"]
    p = program(inputs=x, method="finite-central", dtype=None)
    p.run(x * 1.01)
    p.run(x)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], (x * np.float32(1.01)).astype(np.float32))


# ---- what is refused -----------------------------------------------------------------------------


def test_points_are_asked_one_by_one_and_the_worst_is_the_answer():
    kinked = point("kinked")["flower_mm"]
    compare = partial(gradcli.compare, methods=["reverse", "complex-step"], budget=5.0, runs=1)
    found = compare(SAMPLES / "kinked.onnx", points=[kinked + 0.5, kinked])
    assert [(at.label, str(at.comparison.verdict)) for at in found.points] == [
        ("point 0", "AGREE"), ("point 1", "KINK"),
    ]  # fmt: skip
    assert (found.worst_point, str(found.verdict)) == (1, "KINK")
    same = compare(PHYSICS, {"t": [[0.5]]}, points=[{"x": [[x]]} for x in (0.25, 0.5)])
    assert not any(at.comparison.notes for at in same.points), "nothing was drawn"
    slopes = [at.comparison.methods[0].worst for at in same.points]
    alone = gradcli.gradient(PHYSICS, {"t": [[0.5]], "x": [[0.5]]})
    assert slopes[1] is not None
    assert slopes[1].value == pytest.approx(float(alone[slopes[1].name].flat[0]))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "no list of points"),
        ({"x": [[0.25]]}, "no list of points"),
        ([{"x": [[0.25]]}, {"x": [[np.nan]]}], "point 1: input 'x' holds NaN"),
        ([{"z": [[0.25]]}], "point 0: the model has no input called 'z'"),
    ],
)
def test_points_that_make_no_sense(points, words):
    with pytest.raises(GradcliError, match=words):
        gradcli.compare(PHYSICS, points=points)


def test_a_program_without_a_point():
    with pytest.raises(InputError, match="no array is given for input patient"):
        program().run()


def test_nothing_is_drawn_at_random_for_a_derivative():
    with pytest.raises(InputError, match="no array is given for input x, t"):
        gradcli.gradient(PHYSICS)
    with pytest.raises(InputError, match="no array is given for input t"):
        gradcli.gradient(PHYSICS, {"x": [[0.5]]})


def test_one_array_for_two_inputs():
    with pytest.raises(InputError, match="2 inputs"):
        gradcli.gradient(PHYSICS, [[0.5]])


def test_a_direction_is_needed_and_must_fit():
    inputs = point("physics")
    with pytest.raises(InputError, match="needs a tangent"):
        gradcli.jvp(PHYSICS, inputs, None)
    with pytest.raises(InputError, match="shape"):
        gradcli.vjp(PHYSICS, inputs, [1.0, 2.0])
    with pytest.raises(UsageError, match="takes no tangent"):
        program().run(point("diabetes")["patient"], tangent=[1.0])


@pytest.mark.parametrize(
    "how", [{"method": "revers"}, {"dtype": "int8"}, {"wrt": "patent"}, {"of": ["y[0]"]}]
)
def test_words_that_mean_nothing(how):
    with pytest.raises(UsageError) as error:
        gradcli.gradient(DIABETES, point("diabetes"), **how)
    assert error.value.hint


def test_every_refusal_is_a_gradcli_error():
    assert issubclass(InputError, GradcliError)
    with pytest.raises(gradcli.GradcliError):
        gradcli.load(b"hello")


def test_no_derivative_of_a_primal_that_does_not_match(monkeypatch):
    from gradcli import measure

    monkeypatch.setattr(measure, "file_primal", lambda _: {"progression": np.zeros((1, 1))})
    with pytest.raises(CannotError, match="does not match"):
        at(point("diabetes")["patient"])


def test_blocks_whose_joint_names_clash_are_not_dropped():
    blocks = {("a/b", "c"): np.zeros(1), ("a", "b/c"): np.ones(1)}
    with pytest.raises(UsageError, match="same name"):
        api.by_name(blocks)


def test_importing_it_is_free_and_the_first_use_is_not():
    code = (
        "import sys, gradcli\n"
        "assert 'numpy' not in sys.modules\n"
        "gradcli.load\n"
        "assert 'numpy' in sys.modules and 'sympy' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)


NOTHING = "there is nothing to compare: the derivative has no elements"
NONE_NEEDED = "none is needed: the derivative has no elements"


def test_a_sum_over_nothing_has_an_empty_derivative() -> None:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, ("N", 3))
    model = onnxfile.write(b.graph([b.op("ReduceSum", x, b.ints([0]), keepdims=0, name="y")]))
    empty = {"x": np.zeros((0, 3), np.float32)}
    assert api.jacobian(model, empty)["y/x"].shape == (3, 0, 3)
    assert api.vjp(model, empty, np.ones(3, np.float32))["x"].shape == (0, 3)
    found = api.compare(model, empty, budget=10, runs=1, warmup=0)
    assert found.exit_code == 0
    assert {m.verdict for m in found.methods} == {None}
    assert {m.detail for m in found.methods} == {NOTHING}
    assert not any(found.counts.values())
    shown = screen(found)
    assert shown.headline.text == f"{NOTHING} (exit 0)"
    assert [f.text for f in shown.above if f.label == "reference"] == [NONE_NEEDED]


def test_dimensions_that_nobody_gives_grow_until_the_model_can_take_them(tmp_path):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[5], strides=[5]),
        helper.make_node("ReduceSum", ["p"], ["y"]),
    ]
    path = save_model(
        tmp_path / "pooled.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, ["N", 2, "T"])},
        {"y": (TensorProto.FLOAT, [])},
    )
    problem = api.ask(str(path))
    assert problem.shape("x") == (1, 2, 8)
    assert "x[1, 2, 8] is random" in " ".join(problem.notes)
    assert api.ask(str(path), shapes={"x": (3, 2, 6)}).shape("x") == (3, 2, 6)
    with pytest.raises(UnfitError, match="cannot take operands"):
        api.ask(str(path), shapes={"x": (1, 2, 4)})


def test_where_no_size_fits_the_hint_is_what_to_type(tmp_path):
    path = save_model(
        tmp_path / "odd.onnx",
        [
            helper.make_node("Constant", [], ["w"], value_floats=[1.0] * 7),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, ["N", "T"])},
        {"y": (TensorProto.FLOAT, ["N"])},
    )
    with pytest.raises(UnfitError) as refusal:
        api.ask(str(path))
    assert "--shape x=1,1" in refusal.value.hint
