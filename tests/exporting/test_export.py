import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli import api, exporting
from gradcli.errors import CannotError, OutputError, UsageError
from gradcli.ops import OPS
from tests.cli.support import PHYSICS, POINT, SAMPLES, save_model

FLOAT = int(TensorProto.FLOAT)
NAMES = ("attention", "diabetes", "digits", "kinked", "physics", "sequence")


def run(path, feeds):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def batch(name, rows):
    """A sample's input, in so many different rows."""
    rng = np.random.default_rng(rows)
    with np.load(SAMPLES / f"{name}.npz") as point:
        return {
            key: (np.repeat(x, rows, 0) + 0.1 * rng.standard_normal((rows, *x.shape[1:]))).astype(
                x.dtype
            )
            for key, x in dict(point).items()
            for x in [x[:1]]
        }


def close(ours, theirs, rtol=1e-4):
    assert ours.keys() == theirs.keys()
    for key, y in theirs.items():
        assert ours[key].shape == y.shape, key
        scale = np.max(np.abs(y), initial=0.0)
        np.testing.assert_allclose(ours[key], y, rtol=0, atol=rtol * scale, err_msg=key)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_s_batch_stays_open_and_its_derivatives_are_right(name, rows, tmp_path):
    model = str(SAMPLES / f"{name}.onnx")
    feeds = batch(name, rows)
    rng = np.random.default_rng(0)

    back = gradcli.export(model, tmp_path / "back.onnx", operator="vjp", inputs=batch(name, 1))
    onnx.checker.check_model(str(tmp_path / "back.onnx"), full_check=True)
    (y_bar,) = [t for t in back.inputs if t.role == "cotangent"]
    shape = back.shapes[y_bar.name]
    assert shape is not None
    assert shape[0] == "N"
    w = rng.standard_normal((rows, *map(int, shape[1:]))).astype(np.float32)
    want = gradcli.vjp(model, feeds, w, dtype="float64")
    found = run(tmp_path / "back.onnx", {**feeds, y_bar.name: w})
    close(found, {f"{key}_bar": x for key, x in want.items()})

    gradcli.export(model, tmp_path / "along.onnx", operator="jvp", inputs=batch(name, 1))
    v = {key: rng.standard_normal(x.shape).astype(np.float32) for key, x in feeds.items()}
    along = run(tmp_path / "along.onnx", {**feeds, **{f"{key}_dot": x for key, x in v.items()}})
    close(
        along, {f"{key}_dot": y for key, y in gradcli.jvp(model, feeds, v, dtype="float64").items()}
    )

    gradcli.export(model, tmp_path / "whole.onnx", operator="jacobian", inputs=batch(name, 1))
    close(run(tmp_path / "whole.onnx", feeds), gradcli.jacobian(model, feeds, dtype="float64"))


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "d.onnx"
    made = gradcli.export(PHYSICS, path, operator="jvp", wrt="x", primal=True)
    file = onnx.load(path)
    facts = {p.key.removeprefix("gradcli."): p.value for p in file.metadata_props}
    model = api.load(PHYSICS)
    assert (facts["operator"], facts["model"]) == ("jvp", "physics.onnx")
    assert (facts["model_sha256"], facts["version"]) == (model.sha256, gradcli.__version__)
    assert (json.loads(facts["wrt"]), json.loads(facts["of"])) == (["x"], ["u"])
    assert json.loads(facts["model_opset"]) == model.opset
    assert json.loads(facts["names"]) == {
        "inputs": [
            {"name": "x", "role": "primal"},
            {"name": "t", "role": "primal"},
            {"name": "x_dot", "role": "tangent", "wrt": "x"},
        ],
        "outputs": [
            {"name": "u", "role": "primal", "of": "u"},
            {"name": "u_dot", "role": "derivative", "of": "u"},
        ],
    }
    assert "jvp of u with respect to x" in file.doc_string
    assert model.sha256 in file.doc_string
    assert str(SAMPLES) not in file.doc_string + str(facts)
    assert {o.domain for o in file.opset_import} == {""}
    assert [t.name for t in made.outputs] == [o.name for o in file.graph.output]
    with np.load(POINT) as point:
        out = run(path, {**point, "x_dot": np.ones((1, 1), np.float32)})
        own = run(PHYSICS, dict(point))
    np.testing.assert_allclose(out["u"], own["u"], rtol=1e-6)


def test_it_can_be_differentiated_again(tmp_path):
    """u_xx of the rod, by the gradient of the gradient: against differences of gradients."""
    first, second = tmp_path / "u_x.onnx", tmp_path / "u_xx.onnx"
    gradcli.export(PHYSICS, first, operator="gradient", dtype="float64")
    made = gradcli.export(first, second, operator="gradient", wrt="x", of="x_bar")
    assert [t.name for t in made.inputs] == ["x", "t"]
    x, t = np.linspace(0.1, 0.9, 5)[:, None], np.full((5, 1), 0.3)
    (u_xx,) = run(second, {"x": x, "t": t}).values()
    h = 1e-4
    moved = [run(first, {"x": x + s, "t": t})["x_bar"] for s in (h, -h)]
    np.testing.assert_allclose(u_xx, (moved[0] - moved[1]) / (2 * h), rtol=1e-6)
    again = gradcli.gradient(first, {"x": x[:1], "t": t[:1]}, wrt="x", of="x_bar")
    np.testing.assert_allclose(again["x"], u_xx[:1], rtol=1e-12)


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Mul", ["x", "x_dot"], ["y"])],
        {"x": (FLOAT, ["N"]), "x_dot": (FLOAT, ["N"])},
        {"y": (FLOAT, ["N"])},
    )
    made = gradcli.export(path, tmp_path / "d.onnx", operator="jvp")
    tangents = {t.wrt: t.name for t in made.inputs if t.role == "tangent"}
    assert tangents["x_dot"] == "x_dot_dot"
    assert tangents["x"] not in ("x_dot", "x")
    a, b, da, db = (np.array([k, k + 1], np.float32) for k in (2, 3, 5, 7))
    out = run(tmp_path / "d.onnx", {"x": a, "x_dot": b, tangents["x"]: da, "x_dot_dot": db})
    np.testing.assert_allclose(out["y_dot"], a * db + b * da)


def test_a_jacobian_for_each_row(tmp_path):
    model = str(SAMPLES / "diabetes.onnx")
    made = gradcli.export(model, tmp_path / "j.onnx", operator="jacobian", per_row=True)
    assert made.shapes["progression/patient"] == ("N", 1, 10)
    feeds = batch("diabetes", 3)
    whole = gradcli.jacobian(model, feeds)["progression/patient"]
    rows = run(tmp_path / "j.onnx", feeds)["progression/patient"]
    np.testing.assert_allclose(rows, np.einsum("nink->nik", whole), rtol=1e-4)


def test_rows_that_mix_have_no_jacobian_of_their_own(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        {"x": (FLOAT, ["N", 2])},
        {"y": (FLOAT, ["N", 2])},
    )
    with pytest.raises(CannotError, match="rows apart"):
        gradcli.export(path, tmp_path / "d.onnx", operator="jacobian", per_row=True)
    assert not (tmp_path / "d.onnx").exists()


def test_no_derivative_is_zeros_of_the_right_shape(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Floor", ["x"], ["f"]), helper.make_node("Mul", ["f", "s"], ["y"])],
        {"x": (FLOAT, ["N", 3]), "s": (FLOAT, [3])},
        {"y": (FLOAT, ["N", 3])},
    )
    made = gradcli.export(path, tmp_path / "d.onnx", operator="vjp")
    assert made.zero == ("x_bar",)
    x = np.array([[1.5, 2.5, 3.5], [0.5, 1.5, 2.5]], np.float32)
    feeds = {"x": x, "s": np.ones(3, np.float32), "y_bar": np.ones_like(x)}
    out = run(tmp_path / "d.onnx", feeds)
    np.testing.assert_array_equal(out["x_bar"], np.zeros_like(x))
    np.testing.assert_allclose(out["s_bar"], np.floor(x).sum(0))


def test_what_a_recurrence_fixes_is_named_with_its_node(tmp_path):
    rng = np.random.default_rng(0)
    weights = {"W": (1, 8, 3), "R": (1, 8, 2)}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "W", "R"], ["y"], name="cell", hidden_size=2)],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["T", "N", 3])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [
            numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), k)
            for k, s in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = model.SerializeToString()
    made = gradcli.export(data, operator="vjp", shapes={"x": [4, 2, 3]})
    assert any("T = 4" in note and "'cell'" in note for note in made.notes), made.notes
    assert made.shapes["x"] == (4, "N", 3)


def test_static_fixes_all(tmp_path):
    made = gradcli.export(PHYSICS, tmp_path / "d.onnx", operator="vjp", static=True)
    assert set(made.shapes.values()) == {(1, 1)}
    assert any("N = 1" in note for note in made.notes)


def test_weights_are_inputs_when_they_are_asked_for(tmp_path):
    model = str(SAMPLES / "diabetes.onnx")
    name = next(v.name for v in api.load(model).graph.constants if len(v.shape or ()) == 2)
    gradcli.export(model, tmp_path / "d.onnx", operator="gradient", wrt=name)
    feeds = batch("diabetes", 1)
    weights = next(a for v, a in api.load(model).graph.constants.items() if v.name == name)
    (found,) = run(tmp_path / "d.onnx", {**feeds, name: weights}).values()
    want = gradcli.gradient(model, feeds, wrt=name)[name]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5 * np.max(np.abs(want)))


def test_a_tuned_file_computes_the_same(tmp_path):
    model = str(SAMPLES / "digits.onnx")
    feeds = {**batch("digits", 2), "logits_bar": np.ones((2, 10), np.float32)}
    out = []
    for tuned in (False, True):
        gradcli.export(model, tmp_path / "d.onnx", operator="vjp", tuned=tuned)
        out.append(run(tmp_path / "d.onnx", feeds))
    close(out[1], out[0])
    assert "do not differentiate" in onnx.load(tmp_path / "d.onnx").doc_string


def external(folder: Path, size: int = 64) -> Path:
    """A model with its weights in a file beside it."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((size, size)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["z"]), helper.make_node("Tanh", ["z"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["N", size])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", size])],
        [numpy_helper.from_array(weights, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    folder.mkdir(exist_ok=True)
    onnx.save_model(
        model,
        folder / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return folder / "m.onnx"


@pytest.mark.parametrize("place", ["in", "above"])
def test_weights_beside_the_model_are_referred_to_and_not_copied(place, tmp_path):
    model = external(tmp_path / "in")
    folder = tmp_path / "in" if place == "in" else tmp_path
    made = gradcli.export(model, folder / "d.onnx", operator="vjp")
    assert made.shared == ("W",)
    assert len(made.data) < 4096
    (tensor,) = [t for t in onnx.load(folder / "d.onnx", load_external_data=False).graph.initializer
                 if t.name == "W"]  # fmt: skip
    (where,) = [e.value for e in tensor.external_data if e.key == "location"]
    assert where == ("weights.bin" if place == "in" else "in/weights.bin")
    x = np.ones((2, 64), np.float32)
    found = run(folder / "d.onnx", {"x": x, "y_bar": x})["x_bar"]
    np.testing.assert_allclose(found, gradcli.vjp(model, x, x)["x"], rtol=1e-4, atol=1e-5)
    gradcli.vjp(folder / "d.onnx", {"x": x, "y_bar": x}, np.ones_like(x), wrt="x", of="x_bar")


def test_a_file_elsewhere_holds_the_weights_itself(tmp_path):
    model = external(tmp_path / "in")
    (tmp_path / "out").mkdir()
    made = gradcli.export(model, tmp_path / "out" / "d.onnx", operator="vjp")
    assert made.shared == ()
    x = np.ones((1, 64), np.float32)
    assert run(tmp_path / "out" / "d.onnx", {"x": x, "y_bar": x})["x_bar"].shape == (1, 64)


@pytest.mark.parametrize("name", ["m.onnx", "weights.bin"])
def test_the_model_and_its_weights_are_not_written_over(name, tmp_path):
    model = external(tmp_path)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match="model itself"):
        gradcli.export(model, tmp_path / name, operator="vjp")
    assert (tmp_path / name).read_bytes() == before


def test_a_wrong_rule_leaves_no_file(tmp_path, monkeypatch):
    from dataclasses import replace

    tanh = OPS["Tanh"]
    rule = tanh.vjp
    assert rule is not None
    wrong = OPS.replace(replace(tanh, vjp=lambda s, bars: [b and b * 1.001 for b in rule(s, bars)]))
    problem = api.ask(PHYSICS, dict(np.load(POINT)), operator="jacobian")
    faulty = replace(problem, table=wrong)
    form = exporting.Form()
    with pytest.raises(CannotError, match="off from complex-step"):
        exporting.exported(faulty, "vjp", lambda _: faulty, form, None, "0")
    made = exporting.exported(problem, "vjp", lambda _: problem, form, None, "0")
    assert made.proof.rules < 1e-12


def test_a_trip_count_that_hangs_on_the_batch_fixes_it():
    """A sum over rows by a Loop: of another size it would be another function."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "i"], ["row"], axis=0),
            helper.make_node("Mul", ["row", "row"], ["square"]),
            helper.make_node("Add", ["sum", "square"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", int(TensorProto.INT64), []),
            helper.make_tensor_value_info("go", int(TensorProto.BOOL), []),
            helper.make_tensor_value_info("sum", FLOAT, [3]),
        ],
        [
            helper.make_tensor_value_info("go_on", int(TensorProto.BOOL), []),
            helper.make_tensor_value_info("next", FLOAT, [3]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
            helper.make_node("Squeeze", ["n"], ["trips"]),
            helper.make_node("Loop", ["trips", "", "zero"], ["y"], name="add_up", body=body),
        ],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", FLOAT, [3])],
        [numpy_helper.from_array(np.zeros(3, np.float32), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = gradcli.export(model.SerializeToString(), operator="vjp", shapes={"x": [2, 3]})
    assert made.shapes["x"] == (2, 3)
    assert any("N = 2" in note for note in made.notes), made.notes


def test_a_gradient_is_of_one_number_in_each_row():
    with pytest.raises(UsageError, match="one number"):
        gradcli.export(str(SAMPLES / "digits.onnx"), operator="gradient")
    made = gradcli.export(str(SAMPLES / "digits.onnx"), operator="gradient", of="logits[:,3]")
    assert made.shapes["image_bar"] == ("N", 1, 8, 8)


def by_size(steps, shape=("N", 3)):
    """x -> x * x where there are more than `steps` rows, else sin(x)."""
    ways = {
        name: helper.make_graph(
            [helper.make_node(op, ["x"] * count, [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, FLOAT, None)],
        )
        for name, op, count in (("square", "Mul", 2), ("sine", "Sin", 1))
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Squeeze", ["n"], ["rows"]),
        helper.make_node("Greater", ["rows", "steps"], ["many"]),
        helper.make_node(
            "If", ["many"], ["y"], then_branch=ways["square"], else_branch=ways["sine"]
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, shape)],
        [numpy_helper.from_array(np.array(steps), "steps")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_what_goes_another_way_from_some_size_on_stays_at_its_size(steps):
    """At 2 rows: of 3, of 1 and of 8 rows it is another function, one of them in each case."""
    made = gradcli.export(by_size(steps), operator="vjp", shapes={"x": [2, 3]})
    assert made.shapes["x"] == (2, 3)
    assert any("another size" in note for note in made.notes), made.notes


def test_a_model_of_even_sizes_only_is_looked_at_at_another_one(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Sin", ["r"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", FLOAT, ["M", 2])],
        [numpy_helper.from_array(np.array([-1, 2]), "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = gradcli.export(
        model.SerializeToString(), tmp_path / "d.onnx", operator="gradient", of="y[0,0]",
        shapes={"x": [4]},
    )  # fmt: skip
    assert made.shapes["x"] == ("N",)
    assert not any("one size only" in note for note in made.notes)
    x = np.arange(10, dtype=np.float32)
    want = np.where(x == 0, np.cos(x), 0)
    np.testing.assert_allclose(run(tmp_path / "d.onnx", {"x": x})["x_bar"], want)


def test_a_jacobian_that_is_too_large_to_be_proven_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", FLOAT, ["N"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = model.SerializeToString()
    with pytest.raises(CannotError, match="1,000,000,000,000 elements"):
        gradcli.export(data, operator="jacobian", shapes={"x": [1_000_000]})
    made = gradcli.export(data, operator="jacobian", of="y[:2]", shapes={"x": [1000]})
    assert made.proof.holds


def test_the_gradient_of_one_number_is_not_said_to_be_one_of_a_sum():
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "x"], ["s"]),
            helper.make_node("ReduceMean", ["s"], ["y"], keepdims=0),
        ],
        "made",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = gradcli.export(model.SerializeToString(), operator="gradient", shapes={"x": [2, 3]})
    assert not any("gradient of the sum" in note for note in made.notes)


def test_a_width_that_onnxruntime_has_no_kernel_in_is_named():
    with pytest.raises(CannotError, match=r"derivative in float64.*Conv") as error:
        gradcli.export(str(SAMPLES / "digits.onnx"), operator="vjp", dtype="float64")
    assert "leave --dtype out" in error.value.hint


def test_an_input_that_only_chose_a_way_is_named():
    ways = {
        name: helper.make_graph(
            [helper.make_node(op, ["x"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, FLOAT, [3])],
        )
        for name, op in (("tangent", "Tanh"), ("sine", "Sin"))
    }
    choose = helper.make_node(
        "If", ["way"], ["y"], then_branch=ways["tangent"], else_branch=ways["sine"]
    )
    graph = helper.make_graph(
        [choose],
        "made",
        [
            helper.make_tensor_value_info("x", FLOAT, [3]),
            helper.make_tensor_value_info("way", int(TensorProto.BOOL), []),
        ],
        [helper.make_tensor_value_info("y", FLOAT, [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = gradcli.export(model.SerializeToString(), operator="vjp", inputs={"way": np.array(True)})
    assert [t.name for t in made.inputs] == ["x", "y_bar"]
    assert any("way is an input of the model and none of the file" in note for note in made.notes)
