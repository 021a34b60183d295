"""The door to ONNX files: `read` a file into a Graph, `write` a Graph as a file."""

from gradcli.onnxfile.budget import MAX_IR, MAX_OPSET, MIN_OPSET, Budget
from gradcli.onnxfile.model import Model, read
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.place import Place, beside
from gradcli.onnxfile.runnable import rounded_products, runnable, tensors_of
from gradcli.onnxfile.schemas import versions
from gradcli.onnxfile.single import read_tensor
from gradcli.onnxfile.stored import data_files, stored
from gradcli.onnxfile.writer import left_out, put, save, write

__all__ = [
    "MAX_IR",
    "MAX_OPSET",
    "MIN_OPSET",
    "Budget",
    "Model",
    "Place",
    "beside",
    "data_files",
    "left_out",
    "printable",
    "put",
    "read",
    "read_tensor",
    "rounded_products",
    "runnable",
    "save",
    "stored",
    "tensors_of",
    "versions",
    "write",
]
