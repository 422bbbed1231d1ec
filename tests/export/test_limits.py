"""An ONNX graph is inspected before it runs: what no network of ours is exported as, or would take more
memory and time than one, never gets to ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from beatline.export import limits, onnx_graph
from beatline.export.limits import BeyondLimits
from beatline.export.session import ANSWERS, WINDOWS
from beatline.prediction.tasks import TASKS
from tests.paths import ROOT

SHAPE, CLASSES = (8, 2), 3
Node: Any = helper.make_node  # whose attributes are keywords of any type


def graph(
    nodes: Sequence[NodeProto],
    constants: dict[str, Any],
    *,
    window: str = WINDOWS,
    answers: int = TensorProto.FLOAT,
    domains: Sequence[str] = ("",),
) -> onnx.ModelProto:
    """A graph whose nodes turn `mean` `[B, 3]` of the windows into the answers."""
    windows = helper.make_tensor_value_info(window, TensorProto.FLOAT, ["number", *SHAPE])
    outputs = helper.make_tensor_value_info(ANSWERS, answers, ["number", CLASSES])
    first = [Node("Flatten", [window], ["flat"]), Node("MatMul", ["flat", "matrix"], ["mean"])]
    weights = {"matrix": np.ones((16, 3), np.float32) / 16, **constants}
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()]
    made = helper.make_graph([*first, *nodes], "graph", [windows], [outputs], tensors)
    opsets = [helper.make_opsetid(domain, 20 if not domain else 1) for domain in domains]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def plain(**changes: Any) -> onnx.ModelProto:
    return graph([Node("Sigmoid", ["mean"], [ANSWERS])], {}, **changes)


def swollen(*nodes: NodeProto, **constants: Any) -> onnx.ModelProto:
    """A graph that adds the sum of a `large` tensor to its answers."""
    summed = Node("ReduceSum", ["large"], ["sum"], keepdims=0)
    return graph([*nodes, summed, Node("Add", ["mean", "sum"], [ANSWERS])], constants)


def subgraph(output: str, nodes: Sequence[NodeProto]) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "body", [], [value])


def loop() -> onnx.ModelProto:
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    go, goes = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on"))
    state, next_state = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    nodes = [Node("Identity", ["go"], ["on"]), Node("Sin", ["x"], ["y"])]
    body = helper.make_graph(nodes, "body", [number, go, state], [goes, next_state])
    times = {"times": np.int64(10**9), "true": np.bool_(True)}
    return graph([Node("Loop", ["times", "true", "mean"], [ANSWERS], body=body)], times)


def branches() -> onnx.ModelProto:
    both = {
        name: subgraph("y", [Node("Sin", ["mean"], ["y"])])
        for name in ("then_branch", "else_branch")
    }
    return graph([Node("If", ["true"], [ANSWERS], **both)], {"true": np.bool_(True)})


def other_file() -> onnx.ModelProto:
    model = plain()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def untrue_size() -> onnx.ModelProto:
    model = plain()
    model.graph.initializer[0].dims[:] = [16, 1 << 40]
    return model


def chain() -> onnx.ModelProto:
    """Products of matrices of which few bytes say that they are large."""
    large = Node("Expand", ["one", "shape"], ["product0"])
    products = [Node("MatMul", [f"product{n}", "product0"], [f"product{n + 1}"]) for n in range(60)]
    last = Node("Identity", ["product60"], ["large"])
    shape = np.array([1000, 1000])
    return swollen(large, *products, last, one=np.float32(0), shape=shape)


def by_value() -> onnx.ModelProto:
    """How large a tensor is depends on what the client sends."""
    nodes = [
        Node("Cast", ["mean"], ["whole"], to=TensorProto.INT64),
        Node("Reshape", ["whole", "flat1"], ["shape"]),
        Node("ConstantOfShape", ["shape"], ["large"]),
    ]
    return swollen(*nodes, flat1=np.array([-1]))


def function() -> onnx.ModelProto:
    model = plain()
    opset = [helper.make_opsetid("", 20)]
    body = [Node("Sin", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "Sinus", ["x"], ["y"], body, opset))
    return model


_HUGE = np.array([500_000_000])
HOSTILE: dict[str, Callable[[], onnx.ModelProto]] = {
    "constant of shape": lambda: swollen(
        Node("ConstantOfShape", ["shape"], ["large"]), shape=_HUGE
    ),
    "expand": lambda: swollen(
        Node("Expand", ["one", "shape"], ["large"]), one=np.float32(1), shape=_HUGE
    ),
    "tile": lambda: swollen(
        Node("Tile", ["one", "shape"], ["large"]), one=np.ones(1, np.float32), shape=_HUGE
    ),
    "range": lambda: swollen(
        Node("Range", ["zero", "end", "one"], ["large"]),
        zero=np.float32(0),
        one=np.float32(1),
        end=np.float32(5e8),
    ),
    "pad": lambda: swollen(
        Node("Pad", ["one", "pads"], ["large"]),
        one=np.ones(1, np.float32),
        pads=np.append(0, _HUGE),
    ),
    "resize": lambda: swollen(
        Node("Resize", ["one", "", "scales"], ["large"]),
        one=np.ones((1, 1, 1), np.float32),
        scales=np.array([1, 1, 5e8], np.float32),
    ),
    "negative": lambda: swollen(
        Node("ConstantOfShape", ["shape"], ["large"]), shape=np.array([-5, 1 << 62])
    ),
    "overflow": lambda: swollen(
        Node("ConstantOfShape", ["shape"], ["large"]), shape=np.array([1 << 40, 1 << 40])
    ),
    "by value": by_value,
    "chain": chain,
    "loop": loop,
    "if": branches,
    "other file": other_file,
    "untrue size": untrue_size,
    "function": function,
    "domain": lambda: graph(
        [Node("Gelu", ["mean"], [ANSWERS], domain="com.microsoft")],
        {},
        domains=("", "com.microsoft"),
    ),
    "input": lambda: plain(window="signals"),
    "integers": lambda: plain(answers=TensorProto.INT64),
    "width": lambda: graph([Node("Concat", ["mean", "mean"], [ANSWERS], axis=1)], {}),
    "sequence": lambda: graph([Node("SequenceConstruct", ["mean"], [ANSWERS])], {}),
    "random": lambda: graph([Node("RandomNormalLike", ["mean"], [ANSWERS])], {}),
    "nodes": lambda: graph(
        [
            *[
                Node("Relu", ["mean" if not n else f"r{n}"], [f"r{n + 1}"])
                for n in range(limits.NODES)
            ],
            Node("Relu", [f"r{limits.NODES}"], [ANSWERS]),
        ],
        {},
    ),
    "cycle": lambda: graph(
        [
            Node("Relu", ["b"], ["a"]),
            Node("Relu", ["a"], ["b"]),
            Node("Add", ["a", "b"], [ANSWERS]),
        ],
        {},
    ),
}


def check(graph: bytes) -> limits.Needs:
    return limits.check(graph, SHAPE, CLASSES, reconstructs=False)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_graphs_are_refused_at_once(case: str) -> None:
    """Whatever a graph would take, finding out takes a moment."""
    content = HOSTILE[case]().SerializeToString()
    began = time.process_time()
    with pytest.raises(BeyondLimits) as error:
        check(content)
    assert time.process_time() - began < 1
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_plain_graph_is_not() -> None:
    """The frame in which hostile nodes stand is none of the reasons: what is not too large passes."""
    assert check(plain().SerializeToString()).batch == limits.BATCH
    small = Node("ConstantOfShape", ["shape"], ["large"])
    assert check(swollen(small, shape=np.array([5])).SerializeToString()).work < 1_000


MEASURED = """
import resource, sys
from pathlib import Path
import onnxruntime
from beatline.export import limits
from beatline.export.limits import BeyondLimits
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for path in sys.argv[1:]:
    try:
        limits.check(Path(path).read_bytes(), (8, 2), 3, reconstructs=False)
    except BeyondLimits:
        continue
    sys.exit(path)
print((peak() - before) // 1024)
"""


def test_hostile_graphs_take_no_memory(tmp_path: Path) -> None:
    """A few hundred bytes that name gigabytes leave a process as it was."""
    paths = [tmp_path / f"{number}.onnx" for number in range(len(HOSTILE))]
    for path, make in zip(paths, HOSTILE.values(), strict=True):
        path.write_bytes(make().SerializeToString())
    command = [sys.executable, "-c", MEASURED, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert int(done.stdout) < 100  # MB


def test_large_networks_run_fewer_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the number of windows in a run, so that a large network is not refused."""
    monkeypatch.setattr(limits, "MEMORY", 4_000)
    assert 1 <= check(plain().SerializeToString()).batch < limits.BATCH


class _Layers(nn.Module):
    """Layers that a model of one's own may have and none of ours has."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 8, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(16)
        self.group = nn.GroupNorm(2, 16)
        self.pool = nn.AvgPool1d(2)
        self.head = nn.Linear(16, 3)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        steps = self.norm(self.gru(windows)[0])
        steps = nn.functional.scaled_dot_product_attention(steps, steps, steps)
        pooled = self.pool(nn.functional.gelu(self.group(steps.transpose(1, 2))))
        return self.head(nn.functional.interpolate(pooled, scale_factor=2.0).mean(dim=-1))


def test_networks_of_ones_own_can_be_exported() -> None:
    """Recurrent units, attention and normalization of other kinds are no more hostile than ours."""
    written = onnx_graph.export(_Layers(), TASKS["multilabel"], SHAPE)
    assert check(written).work > 0


def test_what_the_service_would_refuse_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told when the model is trained, not when it is to answer."""
    monkeypatch.setattr(limits, "MEMORY", 1_000)
    with pytest.raises(onnx_graph.NotExported, match="a window takes"):
        onnx_graph.export(nn.Sequential(nn.Flatten(), nn.Linear(16, 99)), TASKS["binary"], SHAPE)
