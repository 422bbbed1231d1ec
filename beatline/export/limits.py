"""What the ONNX graph of a bundle may be, checked before ONNX Runtime sees it.

ONNX Runtime does what a graph says: a loop without end, and tensors as large as a few bytes name. A graph
that passes has only operators that networks are exported as, and sizes that are known of every tensor:
memory and work follow from them. Nothing of the graph is run for that but arithmetic on shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.defs import OpSchema, get_schema
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from beatline.export.session import ANSWERS, RECONSTRUCTION, WINDOWS

BATCH = 128  # windows in one run of a graph, at most
LARGEST = 256 << 20  # bytes of a graph with its weights: networks of ours have a few megabytes
NODES = 20_000  # a rocket of 12 channels has some thousand, and a mean of several as many each
MEMORY = 1 << 30  # bytes of all tensors of a run: fewer windows are run at once if they need more
WORK = 4_000_000_000  # multiply-adds for one window: about a second on one thread
FOLDED = 1 << 10  # elements of a tensor that shapes are computed from, at most
OPSETS = range(13, 24)  # of ONNX: the exporter writes 20

# What torch.onnx.export makes of the layers and the functions of torch that networks are built of. No
# Loop, Scan, If and sequences: how often they run, or what comes out, is known only when they run.
_OPERATORS = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat
    Constant ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Einsum Elu Equal Erf
    Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape
    Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum
    Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
OPERATORS = frozenset(_OPERATORS.split())
# By which the exporter computes shapes; other nodes are not computed, whatever they take.
_ARITHMETIC = """
    Add Cast Concat ConstantOfShape Div Equal Expand Flatten Gather Identity Max Min Mod Mul Neg
    Range ReduceProd Reshape Shape Size Slice Squeeze Sub Transpose Unsqueeze Where
"""
ARITHMETIC = frozenset(_ARITHMETIC.split())
TYPES = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
)
ATTRIBUTES = frozenset(
    {
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    }
)

Dims = tuple[int, ...]


class BeyondLimits(Exception):
    """The reason why a graph is not run, in one line."""


@dataclass(frozen=True)
class Needs:
    """What runs of a graph need. `batch`: windows at once, at most; `work`: multiply-adds per window."""

    batch: int
    work: int


def check(graph: bytes, shape: tuple[int, int], answers: int, *, reconstructs: bool) -> Needs:
    """Return what a graph needs whose windows are `[B, *shape]`, and which gives `answers` `[B, K]` for
    K = `answers`, and a `reconstruction` `[B, *shape]` if it `reconstructs`.

    Raises BeyondLimits if it is another, or one that no network of ours is exported as.
    """
    model = _parsed(graph)
    expected: dict[str, Dims] = {ANSWERS: (answers,)}
    if reconstructs:
        expected[RECONSTRUCTION] = shape
    _check_outline(model, list(expected))
    constants = _constants(model)
    window = _sized(model, constants, (1, *shape), expected)
    if window.work > WORK:
        raise BeyondLimits(f"a window takes {window.work:.1e} multiply-adds, more than {WORK:.0e}")
    if window.bytes > MEMORY:
        raise BeyondLimits(f"a window takes {window.bytes >> 20:,} MiB, more than {MEMORY >> 20:,}")
    batch = BATCH
    while batch > 1:
        need = _sized(model, constants, (batch, *shape), expected)
        if need.bytes <= MEMORY and need.work <= WORK * batch:
            break
        batch //= 2
    return Needs(batch, window.work)


def _parsed(graph: bytes) -> onnx.ModelProto:
    if len(graph) > LARGEST:
        raise BeyondLimits(f"it has {len(graph):,} bytes, more than {LARGEST:,}")
    try:
        return onnx.load_model_from_string(graph)
    except Exception as error:  # of protobuf, which has no base for them
        raise BeyondLimits(f"it is no ONNX graph ({type(error).__name__})") from None


def _check_outline(model: onnx.ModelProto, outputs: list[str]) -> None:
    """Check all that needs no shapes: names, types, operators, and where tensors are."""
    graph = model.graph
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.keys() != {""} or opsets[""] not in OPSETS:
        raise BeyondLimits(
            f"its operators are of {_first(opsets)}, not of ONNX {OPSETS[0]} or later"
        )
    if model.functions or model.training_info or graph.sparse_initializer:
        raise BeyondLimits("it has functions, a training or sparse tensors")
    if [value.name for value in graph.input] != [WINDOWS]:
        raise BeyondLimits(f"its input is {_first(graph.input)}, not {WINDOWS}")
    if [value.name for value in graph.output] != outputs:
        raise BeyondLimits(f"its outputs are not {' and '.join(outputs)}")
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise BeyondLimits(f"its {value.name} are no float32")
    if len(graph.node) > NODES:
        raise BeyondLimits(f"it has {len(graph.node):,} nodes, more than {NODES:,}")
    for node in graph.node:
        if node.domain or node.op_type not in OPERATORS:
            raise BeyondLimits(f"it has the operator {node.domain}{node.op_type[:30]!r}")
        if any(attribute.type not in ATTRIBUTES for attribute in node.attribute):
            raise BeyondLimits(f"a {node.op_type} has a graph, or a sparse tensor, of its own")
    for tensor in (*graph.initializer, *_tensors(graph.node)):
        _check_tensor(tensor)


def _first(values: Sequence[object] | object) -> str:
    return repr(str(next(iter(values), "nothing")))[:60]  # pyright: ignore[reportArgumentType, reportCallIssue]


def _tensors(nodes: Sequence[NodeProto]) -> list[TensorProto]:
    return [
        attribute.t
        for node in nodes
        for attribute in node.attribute
        if attribute.type == AttributeProto.TENSOR
    ]


def _check_tensor(tensor: TensorProto) -> None:
    """Check that a tensor's values are in the graph itself, as many as it says."""
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise BeyondLimits("it has tensors in other files")
    if tensor.data_type not in TYPES:
        raise BeyondLimits(f"it has tensors of the type {tensor.data_type}")
    if min(tensor.dims, default=0) < 0 or not _is_complete(tensor):
        raise BeyondLimits("it has tensors of other sizes than they say")


def _is_complete(tensor: TensorProto) -> bool:
    size = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        return size * _itemsize(tensor.data_type) == len(tensor.raw_data)
    stored = (tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data)
    return size == sum(map(len, stored))


def _itemsize(data_type: int) -> int:
    return helper.tensor_dtype_to_np_dtype(data_type).itemsize


def _constants(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Return the tensors that a graph holds, by name: its weights and its nodes Constant."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            if [attribute.name for attribute in node.attribute] != ["value"]:
                raise BeyondLimits("a Constant has no value, or several")
            constants[node.output[0]] = node.attribute[0].t
    return constants


@dataclass
class _Sizes:
    """`types`, `dims` of the tensors so far, by name; `values` of those that shapes are computed from."""

    types: dict[str, TypeProto] = field(default_factory=dict)
    dims: dict[str, Dims] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    bytes: int = 0
    work: int = 0

    def add(self, name: str, data_type: int, dims: Dims) -> None:
        self.types[name] = helper.make_tensor_type_proto(data_type, dims)
        self.dims[name] = dims
        self.bytes += math.prod(dims) * _itemsize(data_type)


def _sized(
    model: onnx.ModelProto,
    constants: dict[str, TensorProto],
    windows: Dims,
    expected: dict[str, Dims],
) -> _Sizes:
    """Return the sizes of all tensors of a run with an input of the shape `windows`.

    Raises BeyondLimits if one of them is not known before the run, or the `expected` outputs have
    others.
    """
    sizes = _Sizes()
    sizes.add(WINDOWS, TensorProto.FLOAT, windows)
    for name, tensor in constants.items():
        if name == WINDOWS:
            raise BeyondLimits(f"it has {WINDOWS} of its own")
        sizes.add(name, tensor.data_type, tuple(tensor.dims))
        if math.prod(tensor.dims) <= FOLDED:
            sizes.values[name] = numpy_helper.to_array(tensor)
    opset = model.opset_import[0].version
    for node in model.graph.node:
        if node.op_type != "Constant":
            try:
                _add_outputs(sizes, node, opset)
            except BeyondLimits:
                raise
            except Exception as error:  # of shape inference and of arithmetic, whatever it is
                raise BeyondLimits(
                    f"a {node.op_type} cannot run ({type(error).__name__})"
                ) from None
    for name, dims in expected.items():
        if sizes.dims.get(name) != (windows[0], *dims):
            raise BeyondLimits(f"its {name} are of the shape {sizes.dims.get(name)}")
    return sizes


def _add_outputs(sizes: _Sizes, node: NodeProto, opset: int) -> None:
    inputs = [name for name in node.input if name]
    if any(name not in sizes.types for name in inputs):
        raise BeyondLimits(f"a {node.op_type} takes what nothing before it gives")
    if any(name in sizes.types for name in node.output):
        raise BeyondLimits(f"a {node.op_type} gives what is there already")
    values = {name: sizes.values[name] for name in inputs if name in sizes.values}
    schema: OpSchema = get_schema(node.op_type, opset, "")
    inferred = infer_node_outputs(
        schema,
        node,
        {name: sizes.types[name] for name in inputs},
        {name: numpy_helper.from_array(value, name) for name, value in values.items()},
        opset_imports=[helper.make_opsetid("", opset)],
    )
    outputs = [name for name in node.output if name]
    for name in outputs:
        kind = inferred[name].tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
        if not kind.HasField("shape") or min(dims, default=0) < 0 or kind.elem_type not in TYPES:
            raise BeyondLimits(
                f"what a {node.op_type} gives has no size that is known before it runs"
            )
        sizes.add(name, kind.elem_type, dims)
    work, scratch = _effort(node, sizes, inputs, outputs)
    sizes.work += work
    sizes.bytes += scratch
    if node.op_type in ("Shape", "Size"):  # of the shape alone: nothing of that size is made
        values = {inputs[0]: np.broadcast_to(np.False_, sizes.dims[inputs[0]])}
    small = all(math.prod(sizes.dims[name]) <= FOLDED for name in outputs)
    if node.op_type in ARITHMETIC and small and len(values) == len(set(inputs)):
        sizes.values.update(zip(outputs, _computed(node, values, opset), strict=True))


def _computed(node: NodeProto, values: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """Return the outputs of a node for small inputs."""
    nothing = helper.make_tensor_type_proto(TensorProto.UNDEFINED, None)
    inputs = [helper.make_value_info(name, nothing) for name in values]
    outputs = [helper.make_value_info(name, nothing) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, values)]


def _effort(
    node: NodeProto, sizes: _Sizes, inputs: list[str], outputs: list[str]
) -> tuple[int, int]:
    """Return the multiply-adds of a node, and the bytes that it takes besides its outputs."""
    first, given = sizes.dims.get(inputs[0], ()) if inputs else (), sizes.dims[outputs[0]]
    elements = max((math.prod(sizes.dims[name]) for name in (*inputs, *outputs)), default=0)
    second = sizes.dims[inputs[1]] if len(inputs) > 1 else ()
    kernel = math.prod(second[1:])
    if node.op_type == "Conv":  # its windows side by side, and their products with the weights
        return math.prod(given) * kernel, 4 * math.prod(given[2:]) * kernel
    if node.op_type == "ConvTranspose":
        return math.prod(first) * kernel, 4 * math.prod(first[2:]) * kernel
    if node.op_type == "Gemm":
        return math.prod(given) * max(first), 0
    if node.op_type == "MatMul":
        return math.prod(given) * max(first[-1:], default=1), 0
    if node.op_type in ("LSTM", "GRU", "RNN"):
        steps = math.prod(first[:2])  # times windows; weights are [directions, gates, inputs]
        weights = math.prod(second) + math.prod(sizes.dims[inputs[2]])
        return steps * weights, 4 * steps * math.prod(second[:2])
    if node.op_type in ("MaxPool", "AveragePool"):
        shape = next(tuple(a.ints) for a in node.attribute if a.name == "kernel_shape")
        return math.prod(given) * math.prod(shape), 0
    if node.op_type == "Einsum":
        terms = next(a.s.decode() for a in node.attribute if a.name == "equation")
        terms = terms.replace(" ", "").partition("->")[0].split(",")
        sums: dict[str, int] = {}
        for term, name in zip(terms, inputs, strict=True):
            sums |= dict(zip(term, sizes.dims[name], strict=True))
        return math.prod(sums.values()), 0
    return elements, 0
