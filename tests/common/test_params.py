"""params.yaml is read strictly: each mistake is one sentence that names the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from beatline.common import params
from beatline.common.errors import UserError, did_you_mean
from beatline.datasets import table
from beatline.models import autoencoder, boosted_trees, cnn, cnn_lstm, embedding, lstm, mlp, rocket
from beatline.preprocessing import splitting
from beatline.training.parameters import parameters_of
from tests import parameters
from tests.paths import ROOT

SPLIT = {"method": "official", "by": "record", "train": 0.7, "validation": 0.15, "test": 0.15}


EXTRACT = {"module": "ucr", "kind": "sound"}


def load(folder: Path, content: Any) -> dict[str, Any]:
    path = folder / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return params.load(path)


def sentence_of(folder: Path, content: Any) -> str:
    with pytest.raises(UserError) as error:
        load(folder, content)
    message = str(error.value)
    assert message.startswith(str(folder / "params.yaml"))
    assert "\n" not in message
    return message


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = parameters.content()
    change(content)
    return content


def test_the_committed_file_is_read(tmp_path: Path) -> None:
    """The file in the repository has all blocks, and its outline is right."""
    text = (ROOT / "params.yaml").read_text()
    assert tuple(load(tmp_path, text)) == params.BLOCKS


def test_a_good_outline_is_read_as_it_stands(tmp_path: Path) -> None:
    """A valid outline comes back unchanged, whether data sets, features and models are many or none."""
    content = parameters.content()
    assert load(tmp_path, content) == content
    extracting = changed(lambda c: c["extract_features"].update(ecg5000=EXTRACT))
    assert load(tmp_path, extracting) == extracting
    nothing = {"datasets": {}, "extract_features": {}, "train": {"cnn": None, "lstm": {}}}
    empty = {**content, **nothing}
    assert load(tmp_path, empty) == empty


def test_numbers_are_those_that_dvc_reads(tmp_path: Path) -> None:
    """YAML 1.2 as in DVC: `1e-3` is a number and `no` a word, so both see the same parameters."""
    from dvc.utils.serialize import load_yaml

    values = "[1e-3, 1E5, .5, 010, 1_000, no, off, ~, '1', 0x10, 1.5e+3, -1e-4, .inf]"
    empty = "".join(f"{name}: {{}}\n" for name in params.BLOCKS if name != "evaluate")
    text = f"{empty}evaluate: {values}\n"
    content = load(tmp_path, text)
    assert content == load_yaml(str(tmp_path / "params.yaml"))
    assert content["evaluate"][:3] == [0.001, 100000.0, 0.5]
    assert content["evaluate"][5] == "no"


def test_missing_file_names_the_cure(tmp_path: Path) -> None:
    """A stage that is run in the wrong folder says so."""
    with pytest.raises(UserError, match=r"params\.yaml is missing: run .* root folder"):
        params.load(tmp_path / "params.yaml")


def outline(block: str) -> str:
    """Empty blocks, but for one."""
    key = block.partition(":")[0]
    return "\n".join(block if name == key else f"{name}: {{}}" for name in params.BLOCKS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("datasets: [", "is not valid YAML: .*line 1"),
        (
            "datasets: {}\ndatasets: {}\n",
            'is not valid YAML: found duplicate key "datasets".*line 2',
        ),
        ("train:\n  a: 1\n\tb: 2\n", "is not valid YAML: .*line 3"),
        ("", "must be a mapping with the keys datasets, extract_features, training, train"),
        ("- datasets", "must be a mapping with the keys"),
        ("datasets: {}", "has no block extract_features"),
        ("datasets: {}\nextract_features: {}", "has no block training"),
        ("dataset: {}", r"unknown key 'dataset' \(did you mean datasets\?\)"),
        (outline("datasets: []"), "datasets must be a mapping"),
        (outline("extract_features: [x]"), "extract_features must be a mapping"),
        (outline("extract_features:"), "extract_features must be a mapping"),
        (outline("extract_features: {a: 1}"), r"extract_features\.a: there is no such data set"),
        (outline("train: cnn"), "train must be a mapping"),
        (outline("train: {cnn: [a]}"), r"train\.cnn must be a mapping"),
        (outline("datasets: {a b: {}}"), r"datasets\.a b: .*rename"),
        (outline("datasets: {a.b: {}}"), r"datasets\.a\.b: .*rename"),
        (outline("datasets: {1: {}}"), r"datasets\.1: .*rename"),
        (outline("datasets: {a: 1}"), r"datasets\.a must be a mapping"),
    ],
)
def test_wrong_outline_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    """Broken YAML, duplicate keys, and blocks that are no blocks."""
    with pytest.raises(UserError, match=expected):
        load(tmp_path, text)
    sentence_of(tmp_path, text)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused with a sentence."""
    (tmp_path / "params.yaml").write_bytes(b"datasets: \xff\xfe")
    with pytest.raises(UserError, match="is not valid YAML"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c["datasets"]["ptbxl"].update(module="ptbxll"),
            "datasets.ptbxl.module: there is no module 'ptbxll' in beatline/datasets "
            "(did you mean ptbxl?)",
        ),
        (
            lambda c: c["datasets"]["ptbxl"].update(module=None),
            "datasets.ptbxl.module: there is no module None in beatline/datasets",
        ),
        (lambda c: c["datasets"]["ptbxl"].pop("split"), "has no datasets.ptbxl.split: add it"),
        (
            lambda c: c["datasets"]["ptbxl"].update(normalise={}),
            "datasets.ptbxl: unknown key 'normalise' (did you mean normalize?)",
        ),
        (
            lambda c: c["train"].update(cnnn={}),
            "train.cnnn: there is no such model (did you mean cnn?)",
        ),
        (
            lambda c: c["train"]["cnn"].update(ecg500={}),
            "train.cnn.ecg500: there is no such data set (did you mean ecg5000?)",
        ),
        (lambda c: c.pop("report"), "has no block report: add it"),
        (
            lambda c: c["extract_features"].update(ecg500=EXTRACT),
            "extract_features.ecg500: there is no such data set (did you mean ecg5000?)",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={**EXTRACT, "module": "urc"}),
            "extract_features.ecg5000.module: there is no module 'urc' in beatline/datasets "
            "(did you mean ucr?)",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={**EXTRACT, "kind": "sounds"}),
            "extract_features.ecg5000.kind: there is no module 'sounds' in beatline/features "
            "(did you mean sound?)",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={**EXTRACT, "kind": ["sound"]}),
            "extract_features.ecg5000.kind: there is no module ['sound'] in beatline/features",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={**EXTRACT, "module": "table"}),
            "extract_features.ecg5000.module is table, and datasets.ecg5000.module ucr",
        ),
        (
            # A module of the package that holds no kind of recordings.
            lambda c: c["extract_features"].update(ecg5000={**EXTRACT, "kind": "tables"}),
            "extract_features.ecg5000.kind: there is no module 'tables' in beatline/features",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={"kind": "sound"}),
            "has no extract_features.ecg5000.module: add it",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000={"module": "ucr"}),
            "has no extract_features.ecg5000.kind: add it",
        ),
        (
            lambda c: c["extract_features"].update(ecg5000=None),
            "extract_features.ecg5000 must be a mapping",
        ),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, change: Any, expected: str) -> None:
    """Unknown data set, model or module: the key, and what was probably meant."""
    assert expected in sentence_of(tmp_path, changed(change))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"by": "patients"},
            "split.by: should be 'patient', 'machine' or 'record', not 'patients'",
        ),
        ({"train": "0.7"}, "split.train: should be a valid number, not '0.7'"),
        ({"seed": True}, "split.seed: should be a valid integer, not True"),
        ({"seed": 1.5}, "split.seed: should be a valid integer, not 1.5"),
        ({"train": 0.5}, "split: train + validation + test must be 1"),
        ({"test": 0}, "split.test: should be greater than 0, not 0"),
        ({"sed": 1}, "split.sed: unknown parameter (did you mean seed?)"),
        ({"seed": None}, "split.seed: should be a valid integer, not None"),
    ],
)
def test_wrong_value_names_key_and_value(change: dict[str, Any], expected: str) -> None:
    """Mistyped keys, wrong types and impossible values, without silent conversion."""
    content = {"split": {**SPLIT, "seed": 1, **change}}
    with pytest.raises(UserError) as error:
        params.block(content, "split", splitting.Split)
    assert str(error.value).startswith(f"params.yaml: {expected}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("normal", date(2024, 2, 1), "labels.normal: .* date .* quotes"),
        ("values", [1, date(2024, 2, 1)], "labels.values.1: .* quotes"),
        ("normal", [], r"labels\.normal: .*not \[\]"),
    ],
)
def test_what_may_be_of_several_types(key: str, value: Any, expected: str) -> None:
    """The key is named, and nothing that is none; YAML makes dates of labels such as 2024-02-01."""
    block = {"values": [], "normal": None, "duplicates": "error", "min_records": 1, key: value}
    with pytest.raises(UserError, match=rf"params\.yaml: {expected}") as error:
        params.block({"labels": block}, "labels", table.AggregateLabels)
    assert "str" not in str(error.value).partition(" should")[0]


def test_case_is_no_difference_of_names() -> None:
    assert did_you_mean("adamW", ["adam", "adamw", "sgd"]) == " (did you mean adamw?)"


@pytest.mark.parametrize(
    ("change", "remove", "wrong"),
    [
        ({"sed": 1}, "seed", "split.sed"),
        ({"tran": 0.7, "trains": 0.7}, "train", "split.tran"),
    ],
)
def test_misspelt_key_that_is_missing(change: dict[str, Any], remove: str, wrong: str) -> None:
    """One mistake is one complaint: the key that was meant, not that it is missing."""
    block = {"seed": 1, **SPLIT, **change}
    del block[remove]
    with pytest.raises(UserError, match=rf"{wrong}: .*did you mean {remove}\?") as error:
        params.block({"split": block}, "split", splitting.Split)
    assert "missing" not in str(error.value)


def test_misspelt_key_in_a_block_of_a_block() -> None:
    """So it is in a block inside, and where the parameters of all models stand beside a model's own."""
    content = parameters.content()
    block = content["train"]["cnn"]["ecg5000"]
    block["optimizer"]["learning_ratee"] = block["optimizer"].pop("learning_rate")
    with pytest.raises(UserError, match=r"optimizer\.learning_ratee: .*did you mean learning_rate"):
        parameters_of(content, "cnn", "ecg5000")
    block["optimizer"]["learning_rate"] = block["optimizer"].pop("learning_ratee")
    block["epoks"] = block.pop("epochs")
    with pytest.raises(UserError, match=r"ecg5000\.epoks: .*did you mean epochs"):
        parameters_of(content, "cnn", "ecg5000")


def test_misspelt_key_of_the_outline(tmp_path: Path) -> None:
    """A key that is looked at before its block has a schema."""
    wrong = {"module": "ucr", "kinds": "sound"}
    message = sentence_of(tmp_path, changed(lambda c: c["extract_features"].update(ecg5000=wrong)))
    assert "extract_features.ecg5000.kinds" in message and "did you mean kind?" in message


@pytest.mark.parametrize(
    ("key", "nearest", "others"),
    [
        ("datasets.mnits.split", "mnist", ["ptbxl", "ecg5000"]),
        ("train.cn.ptbxl", "cnn", ["lstm"]),
        ("train.cnn.ecg500", "ecg5000", ["ptbxl"]),
    ],
)
def test_wrong_name_of_a_stage(key: str, nearest: str, others: list[str]) -> None:
    """Who calls a stage by hand for a data set or a model that is none sees those that there are."""
    content = {
        "datasets": {"ptbxl": {}, "ecg5000": {}, "mnist": {"split": {}}},
        "train": {"cnn": {"ptbxl": {}, "ecg5000": {}}, "lstm": {}},
    }
    with pytest.raises(UserError, match=rf"did you mean {nearest}\?") as error:
        params.block_of(content, key)
    assert all(name in str(error.value) for name in others)


def test_wrong_choice_names_the_nearest() -> None:
    """A value that is one of several words."""
    block = {**SPLIT, "seed": 1, "by": "patients"}
    with pytest.raises(UserError, match=r"split\.by: .*did you mean patient\?"):
        params.block({"split": block}, "split", splitting.Split)


def test_missing_key_is_named() -> None:
    """A parameter has no silent default."""
    with pytest.raises(UserError, match=r"params\.yaml: split\.seed: missing, add it"):
        params.block({"split": SPLIT}, "split", splitting.Split)
    with pytest.raises(UserError, match=r"params\.yaml has no datasets\.mnist: add it"):
        params.block_of(parameters.content(), "datasets.mnist.split")
    with pytest.raises(UserError, match=r"params\.yaml has no report\.a\.b: add it"):
        params.block_of({"report": {"a": 1}}, "report.a.b.c")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optimizer.learning_rate", float("inf"), "should be a finite number"),
        ("optimizer.learning_rate", float("nan"), "should be a finite number"),
        ("optimizer.learning_rate", 0, "greater than 0"),
        ("optimizer.name", "adamx", "should be 'adamw', 'adam' or 'sgd'"),
        ("optimizer.momentum", 0.9, "unknown parameter"),
        ("schedule", "one_cycle", "should be a valid dictionary"),
        ("schedule.nam", "constant", "unknown parameter (did you mean name?)"),
        ("windows.stride", 0, "greater than or equal to 1"),
        ("epochs", 0, "greater than or equal to 1"),
        ("batch_size", -1, "greater than or equal to 1"),
        ("threshold_percentile", 100, "less than 100"),
        ("label_smoothing", 1, "less than 1"),
        ("architecture.filters", [], "at least 1 item"),
        ("architecture.filters", [32, 0, 64], "greater than or equal to 1"),
        ("architecture.kernels", [5, 4], "kernels must be odd"),
        ("architecture.kernels", [5], "kernels must have two entries"),
        ("architecture.strides", [1], "strides must have one entry per entry of filters"),
        ("architecture.dropout", 1, "less than 1"),
        ("architecture.layers", 2, "unknown parameter"),
    ],
)
def test_wrong_training_parameters(key: str, value: Any, expected: str) -> None:
    """A training run's block, with its architecture, is held to its two schemas."""
    content = parameters.content()
    block = content["train"]["cnn"]["ecg5000"]
    *outer, last = key.split(".")
    for name in outer:
        block = block.setdefault(name, {})
    block[last] = value
    where = r"params\.yaml: train\.cnn\.ecg5000\." + outer[0] if outer else key
    with pytest.raises(UserError, match=where) as error:
        parameters_of(content, "cnn", "ecg5000")
    assert expected in str(error.value)


def test_missing_architecture_is_named() -> None:
    """A training run without architecture, or that does not exist."""
    content = parameters.content()
    del content["train"]["cnn"]["ecg5000"]["architecture"]
    with pytest.raises(UserError, match=r"train\.cnn\.ecg5000\.architecture\.\w+: missing, add it"):
        parameters_of(content, "cnn", "ecg5000")
    with pytest.raises(UserError, match=r"no train\.transformer: add it"):
        parameters_of(content, "transformer", "ecg5000")


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        (autoencoder.Architecture, {"filters": [0]}),
        (autoencoder.Architecture, {"kernel": 1}),
        (autoencoder.Architecture, {"dimensions": 3}),
        (boosted_trees.Architecture, {"leaves": 1}),
        (cnn.Architecture, {"blocks": "dense"}),
        (cnn_lstm.Architecture, {"kernels": [5, 5]}),
        (cnn_lstm.Architecture, {"hidden": 0}),
        (embedding.Architecture, {"kernel": 2}),
        (lstm.Architecture, {"frame": 0}),
        (mlp.Architecture, {"dense": []}),
        (rocket.Architecture, {"features": 100}),
    ],
)
def test_impossible_architectures(schema: Any, wrong: dict[str, Any]) -> None:
    """Every model refuses what cannot be built."""
    model = schema.__module__.split(".")[-1]
    good = parameters.ARCHITECTURES[model]
    params.validated(good, model, schema)
    with pytest.raises(UserError, match=rf"params\.yaml: {model}"):
        params.validated({**good, **wrong}, model, schema)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_whatever_stands_there_is_one_sentence(value: Any) -> None:
    """Any value in place of a block gives a UserError of one line, never another exception."""
    with pytest.raises(UserError) as error:
        params.block({"split": value}, "split", splitting.Split)
    assert str(error.value).startswith("params.yaml: split")
    assert len(str(error.value).splitlines()) == 1


def test_models_of_a_data_set() -> None:
    """The report lists models in the order of params.yaml."""
    content = {"train": {"lstm": {"b": {}}, "cnn": {"a": {}, "b": {}}, "cnn_lstm": None}}
    assert params.models_of(content, "b") == ["lstm", "cnn"]
    assert params.models_of(content, "a") == ["cnn"]
