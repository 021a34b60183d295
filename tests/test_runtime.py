"""onnxruntime behind its door: what runs, how often, and what goes wrong in words."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node as node

from gradcli import onnxfile, runtime
from gradcli.errors import InputError, ModelError, UsageError
from gradcli.graph import Builder, DType, Graph
from gradcli.ops import OPS
from tests.onnxfile.models import ONES, info, model, read


def chain() -> Graph:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, ("n", 3))
    scale = b.input("scale", DType.FLOAT32, ())
    return b.graph([b.rename(b.op("Tanh", x * scale), "y"), b.rename(x + x, "z")])


def given(**changes: object) -> dict[str, np.ndarray]:
    return {"x": ONES, "scale": np.float32(2), **changes}  # type: ignore[dict-item] # meant to be wrong


def test_a_graph_runs_and_gives_its_outputs_by_name():
    session = runtime.prepare(chain())
    found = session.run(given())
    assert list(found) == list(session.outputs) == ["y", "z"]
    np.testing.assert_allclose(found["y"], np.tanh(2 * ONES), rtol=1e-6)
    assert [v.name for v in session.inputs] == ["x", "scale"]
    assert session.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("optimisation", ["all", "extended", "basic", "off"])
def test_every_level_of_optimisation_gives_the_same(optimisation):
    found = runtime.prepare(chain(), optimisation=optimisation, threads=2).run(given())
    np.testing.assert_allclose(found["y"], np.tanh(2 * ONES), rtol=1e-6)


def test_a_bound_run_reads_its_arrays_anew_and_gives_fresh_ones():
    bound = runtime.prepare(chain()).bind(given())
    first = bound.run()
    bound.inputs["x"][...] = 5
    second = bound.run()
    np.testing.assert_array_equal(first["z"], 2 * ONES)
    np.testing.assert_array_equal(second["z"], 10 * ONES)
    np.testing.assert_array_equal(ONES, np.ones((2, 3)))
    bound.execute()
    np.testing.assert_array_equal(bound.run()["z"], 10 * ONES)


def test_other_sizes_of_a_symbol_run_in_one_session():
    session = runtime.prepare(chain())
    assert session.run(given())["z"].shape == (2, 3)
    assert session.run(given(x=np.ones((7, 3), np.float32)))["z"].shape == (7, 3)
    assert session.run(given(x=np.ones((0, 3), np.float32)))["z"].shape == (0, 3)


def test_arrays_that_are_not_contiguous_run():
    session = runtime.prepare(chain())
    x = np.arange(6, dtype=np.float32).reshape(3, 2).T
    expected = 2 * x
    np.testing.assert_array_equal(session.run(given(x=x))["z"], expected)
    np.testing.assert_array_equal(session.bind(given(x=x)).run()["z"], expected)


HALVES = [
    (TensorProto.FLOAT16, np.float16),
    (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
]


@pytest.mark.parametrize(("number", "dtype"), HALVES, ids=lambda v: getattr(v, "__name__", ""))
def test_narrow_floats_go_in_and_out(number, dtype):
    proto = model(
        [node("Identity", ["x"], ["y"]), node("Cast", ["x"], ["z"], to=1)],
        [info("x", ["n"], number)],
        ["y", "z"],
    )
    x = np.array([0.5, 2, -4]).astype(dtype)
    made = read(proto)
    for source in (made, made.graph):
        session = runtime.prepare(source)
        for found in (session.run({"x": x}), session.bind({"x": x}).run()):
            assert found["y"].dtype == dtype
            np.testing.assert_array_equal(found["y"], x)
            np.testing.assert_array_equal(found["z"], x.astype(np.float32))
        assert session.run({"x": x[:0]})["y"].shape == (0,)


def test_a_name_that_onnxruntime_gives_to_a_cast_of_its_own_may_be_taken():
    """Files of float16 that it has optimised are full of them."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT16, (2,))
    inner = b.rename(b.op("Exp", x), "InsertedPrecisionFreeCast_y")
    session = runtime.prepare(b.graph([b.rename(b.op("Sin", inner - 1.0), "y")]))
    np.testing.assert_array_equal(session.run({"x": np.zeros(2, np.float16)})["y"], [0, 0])


def test_a_graph_runs_whose_constant_is_called_as_one_of_the_optimiser_s_own():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 3, 3))
    weight, bias = (b.constant(np.ones(d, np.float32)) for d in ((3, 2), (2,)))
    shape = b.constant(np.array([2, 3]), name="gemm_input_shape")
    y = b.op("Reshape", b.op("MatMul", x, weight) + bias, shape)
    feeds = {"x": np.ones((1, 3, 3), np.float32)}
    (got,) = runtime.prepare(b.graph([y])).run(feeds).values()
    np.testing.assert_array_equal(got, np.full((2, 3), 4.0))


def test_strings_go_in_and_out():
    proto = model([node("Identity", ["x"], ["y"])], [info("x", [2], TensorProto.STRING)])
    found = runtime.prepare(read(proto)).run({"x": np.array(["a", "ü"], object)})
    assert found["y"].tolist() == ["a", "ü"]


def inner() -> onnxfile.Model:
    nodes = [
        node("Tanh", ["x"], ["hidden"]),
        node("Mul", ["hidden", "w"], ["scaled"]),
        node("Neg", ["scaled"], ["y"]),
    ]
    return read(model(nodes, constants={"w": np.full(3, 2, np.float32)}))


def test_intermediate_values_of_a_file_can_be_asked_for():
    session = runtime.prepare(inner(), extra_outputs=["hidden", "w"])
    found = session.run({"x": ONES})
    assert list(found) == ["y", "hidden", "w"]
    np.testing.assert_allclose(found["hidden"], np.tanh(ONES), rtol=1e-6)
    with pytest.raises(UsageError) as caught:
        runtime.prepare(inner(), extra_outputs=["hiden"])
    assert "no value 'hiden'" in caught.value.message
    assert "'hidden'" in caught.value.hint


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"x": ONES}, "no value is given for input 'scale'"),
        (given(scall=1), "the model has no input 'scall'"),
        (given(x=ONES.astype(np.float64)), "'x' is of float64, but the model takes float32"),
        (given(x=ONES[0]), "'x' has shape [3], but the model takes [n, 3]"),
        (given(x=np.ones((2, 4), np.float32)), "has shape [2, 4], but the model takes [n, 3]"),
        (given(x=np.array([[None] * 3])), "'x' is of str"),
        (given(x=np.zeros((2, 3), "M8[s]")), "cannot hold elements of datetime64"),
    ],
)
def test_wrong_inputs_are_named(feeds, said):
    session = runtime.prepare(chain())
    for attempt in (session.run, session.bind):
        with pytest.raises(InputError) as caught:
            attempt(feeds)
        assert said in caught.value.message


def test_names_that_are_no_utf8_are_refused_where_they_must_be_spoken():
    proto = model([node("Relu", ["x"], ["hh"]), node("Neg", ["hh"], ["YY"])], outputs=["YY"])
    for name in (b"hh", b"YY"):
        data = proto.SerializeToString().replace(name, b"y\xff")
        made = onnxfile.read(data, OPS)
        assert len(runtime.prepare(made.graph).run({"x": ONES})) == 1
        with pytest.raises((ModelError, UsageError)):
            runtime.prepare(made, extra_outputs=["y\\xff"])
    with pytest.raises(ModelError, match="no UTF-8"):
        runtime.prepare(made)


def test_a_near_name_is_suggested():
    with pytest.raises(InputError) as caught:
        runtime.prepare(chain()).run(given(scall=1))
    assert caught.value.hint == "Did you mean 'scale'?"


def test_a_failing_run_is_told_in_one_printable_line(capfd):
    gather = node("Gather", ["t", "x"], ["y"], name="g")
    proto = model([gather], [info("x", [1], 7)], constants={"t": ONES})
    session = runtime.prepare(read(proto))
    for attempt in (session.run, lambda feeds: session.bind(feeds).run()):
        with pytest.raises(InputError) as caught:
            attempt({"x": np.array([9])})
        said = "Gather node 'g': indices element out of data bounds"
        assert said in caught.value.message
        assert caught.value.message.isprintable()
    assert capfd.readouterr() == ("", "")


def test_a_file_that_onnxruntime_refuses_is_told_in_one_printable_line(capfd):
    proto = model([node("Nope", ["x"], ["y"], domain="d")], imports=[("d", 1)])
    for source in (read(proto), read(proto).graph):
        with pytest.raises(ModelError) as caught:
            runtime.prepare(source)
        assert "onnxruntime refuses the model" in caught.value.message
        assert caught.value.message.isprintable()
    assert capfd.readouterr() == ("", "")


def test_providers_have_short_forms_and_near_names():
    assert runtime.prepare(chain(), provider="cpu").provider == "CPUExecutionProvider"
    assert "CPUExecutionProvider" in runtime.providers()
    with pytest.raises(UsageError) as caught:
        runtime.prepare(chain(), provider="CPUExecutionProvide")
    assert caught.value.hint == "Did you mean CPUExecutionProvider?"
    with pytest.raises(UsageError, match="no execution provider 'zzz'"):
        runtime.prepare(chain(), provider="zzz")


def test_a_provider_can_be_checked_before_anything_is_prepared():
    runtime.check_provider("cpu")
    with pytest.raises(UsageError, match="no execution provider"):
        runtime.check_provider("gpu9")


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="0 threads"):
        runtime.prepare(chain(), threads=0)
    with pytest.raises(UsageError, match="99999999999 threads"):
        runtime.prepare(chain(), threads=99999999999)
    with pytest.raises(UsageError, match="no optimisation level 'most'"):
        runtime.prepare(chain(), optimisation="most")  # type: ignore[arg-type] # meant to be wrong


def test_importing_the_runtime_loads_neither_onnx_nor_onnxruntime():
    probe = "import sys, gradcli.runtime; print({'onnx', 'onnxruntime'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "set()\n"


def test_a_long_graph_runs_as_it_stands(monkeypatch):
    """Rewriting it would take longer than all of its runs."""
    levels = []
    options = runtime._options

    def seen(ort, threads, level):
        levels.append(level)
        return options(ort, threads, level)

    monkeypatch.setattr(runtime, "_options", seen)
    source = chain()
    monkeypatch.setattr(runtime, "LONG", len(source.nodes))
    runtime.prepare(source)
    monkeypatch.setattr(runtime, "LONG", len(source.nodes) - 1)
    runtime.prepare(source)
    runtime.prepare(source, optimisation="basic")
    assert levels == ["all", "off", "basic"]
