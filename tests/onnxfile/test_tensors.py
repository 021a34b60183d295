"""Tensors: every element type in every storage, and every lie about size."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gradcli.errors import ModelError
from gradcli.graph import DType
from gradcli.onnxfile.budget import Budget, Meter
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.tensors import CODES, Tensors, to_proto


def tensors(**limits: int) -> Tensors:
    return Tensors(Meter(Budget(**limits), "m.onnx"), Folder(None, "m.onnx"))


def sample(dtype: DType) -> np.ndarray:
    random = np.random.default_rng(1)
    if dtype is DType.STRING:
        return np.array([["a", "", "ü"], ["\x1b[", "b" * 99, "0"]], dtype=object)
    if dtype.is_integer:
        bits = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}.get(dtype.value)
        least, most = (0, 2**bits) if bits else (0, 100)
        low = -(most // 2) if dtype.value.startswith("int") else least
        return random.integers(low, most + low, (2, 3)).astype(dtype.np)
    if dtype is DType.BOOL:
        return random.random((2, 3)) < 0.5
    if dtype.value.startswith("complex"):
        return (random.random((2, 3)) + 1j * random.random((2, 3))).astype(dtype.np)
    return np.array([[0.5, 1, 2], [4, 1, 0.5]]).astype(dtype.np)


@pytest.mark.parametrize("dtype", CODES.values(), ids=lambda d: d.value)
def test_every_element_type_goes_out_and_back(dtype):
    array = sample(dtype)
    proto = to_proto("t", dtype, array)
    kind, back = tensors().array(proto, "t")
    assert kind is dtype
    assert back.dtype == dtype.np
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, array)
    if dtype is not DType.STRING:
        np.testing.assert_array_equal(numpy_helper.to_array(proto), array)


TYPED = [d for d in CODES.values() if d not in (DType.INT2, DType.UINT2, DType.FLOAT8E8M0)]


@pytest.mark.parametrize("dtype", TYPED, ids=lambda d: d.value)
def test_every_element_type_is_read_from_the_typed_fields(dtype):
    array = sample(dtype)
    number = {d: n for n, d in CODES.items()}[dtype]
    if dtype.value.startswith("float4"):
        proto = TensorProto(data_type=number, dims=[2, 3], int32_data=[0x21, 0x42, 0x12])
    else:
        values = array.reshape(-1).tolist()
        proto = helper.make_tensor("t", number, [2, 3], values)
    assert not proto.HasField("raw_data")
    _, back = tensors().array(proto, "t")
    np.testing.assert_array_equal(back, numpy_helper.to_array(proto))


def test_scalars_and_empty_tensors():
    for shape in ((), (0,), (2, 0, 3)):
        array = np.zeros(shape, np.float32)
        for proto in (numpy_helper.from_array(array), TensorProto(data_type=1, dims=shape)):
            if shape != () or proto.HasField("raw_data"):
                assert tensors().array(proto, "t")[1].shape == shape


def test_other_bytes_than_0_and_1_are_true():
    proto = TensorProto(data_type=TensorProto.BOOL, dims=[3], raw_data=b"\x00\x02\xff")
    assert tensors().array(proto, "t")[1].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (TensorProto(data_type=1, dims=[-1], raw_data=b""), "negative dimension"),
        (TensorProto(data_type=1, dims=[-2, -2], raw_data=bytes(16)), "negative dimension"),
        (TensorProto(data_type=1, dims=[3], raw_data=bytes(11)), "holds 11 bytes"),
        (TensorProto(data_type=1, dims=[3], raw_data=bytes(16)), "holds 16 bytes"),
        (TensorProto(data_type=1, dims=[2**33, 2**33]), "impossible shape"),
        (TensorProto(data_type=1, dims=[0, 2**62, 8]), "impossible shape"),
        (TensorProto(data_type=1, dims=[2**40]), "above the limit"),
        (TensorProto(data_type=1, dims=[2], float_data=[1.0]), "holds 1 numbers"),
        (TensorProto(data_type=14, dims=[2], float_data=[1.0, 2.0]), "holds 2 numbers"),
        (TensorProto(data_type=1, dims=[1], int64_data=[1]), "has its data in int64_data"),
        (TensorProto(data_type=8, dims=[2], string_data=[b"a"]), "holds 1 strings"),
        (TensorProto(data_type=22, dims=[3], raw_data=b"\x11"), "holds 1 bytes"),
        (TensorProto(data_type=0, dims=[1]), "unknown element type 0"),
        (TensorProto(data_type=99, dims=[1]), "unknown element type 99"),
        (TensorProto(data_type=1, dims=[1] * 33, raw_data=bytes(4)), "has 33 dimensions"),
    ],
)
def test_lies_about_size_are_refused(proto, said):
    with pytest.raises(ModelError) as caught:
        tensors().array(proto, "W")
    assert said in caught.value.message
    assert caught.value.message.startswith("m.onnx: ")
    assert "'W'" in caught.value.message


def test_a_segmented_tensor_is_refused():
    proto = numpy_helper.from_array(np.zeros(2, np.float32))
    proto.segment.begin = 0
    with pytest.raises(ModelError, match="segments"):
        tensors().array(proto, "W")


def test_all_tensors_together_stay_within_the_budget():
    reader = tensors(tensor_bytes=20)
    proto = numpy_helper.from_array(np.zeros(3, np.float32))
    reader.array(proto, "a")
    with pytest.raises(ModelError, match="with tensor 'b' its constants reach 24 bytes"):
        reader.array(proto, "b")


def sparse(dims: list[int], values: np.ndarray, indices: np.ndarray) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values, "s"), numpy_helper.from_array(indices, "i"), dims
    )


def test_sparse_tensors_become_dense():
    values = np.array([1.0, 2.0], np.float32)
    expected = np.array([[0, 1, 0], [0, 0, 2]], np.float32)
    for indices in ([1, 5], [[0, 1], [1, 2]]):
        dtype, array = tensors().sparse(sparse([2, 3], values, np.array(indices)), "s")
        assert dtype is DType.FLOAT32
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("dims", "indices", "said"),
    [
        ([2**20, 2**20], [0, 1], "when made dense"),
        ([2, 3], [0, 6], "outside its shape"),
        ([2, 3], [-1, 0], "outside its shape"),
        ([2, 3], [[0, 3], [0, 0]], "outside its shape"),
        ([2, 3], [0], "has 2 values but indices"),
        ([0, 3], [0, 1], "outside its shape"),
        ([-2, 3], [0, 1], "negative dimension"),
    ],
)
def test_sparse_bombs_and_lies_are_refused(dims, indices, said):
    proto = sparse(dims, np.ones(2, np.float32), np.array(indices))
    with pytest.raises(ModelError, match=said):
        tensors().sparse(proto, "s")
