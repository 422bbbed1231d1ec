"""`beatline validate`: every block of params.yaml, before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from beatline import cli
from beatline.commands import validate
from beatline.common import params
from beatline.common.errors import UserError
from tests import parameters
from tests.parameters import SOUND
from tests.paths import ROOT

COMMITTED = ROOT / "params.yaml"


def test_the_committed_parameters_are_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every block of the file in the repository fits its schema."""
    monkeypatch.chdir(COMMITTED.parent)
    cli.main(["validate"])
    content = params.load(COMMITTED)
    runs = sum(len(names or {}) for names in content["train"].values())
    expected = f"params.yaml is valid: {len(content['datasets'])} data sets, {runs} training runs"
    assert capsys.readouterr().out.strip() == expected


def leaves(value: Any, key: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [leaf for name, item in value.items() for leaf in leaves(item, f"{key}.{name}")]


def test_no_leaf_is_left_unchecked() -> None:
    """A value of a wrong type, under any key of the file, is found and its key named."""
    committed = params.load(COMMITTED)
    for leaf in leaves(committed):
        content = copy.deepcopy(committed)
        *outer, last = leaf[1:].split(".")
        if last in ("module", "kind"):
            continue  # refused by params.load already
        block = content
        for name in outer:
            block = block[name]
        block[last] = {"wrong": 1}
        with pytest.raises(UserError) as error:
            validate.validate(content)
        assert leaf[1:] in str(error.value)


def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with exit status 1 and a line that names the key."""
    content = parameters.content()
    content["evaluate"]["resamples"] = 10
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["validate"])
    assert str(exit_.value).startswith("error: params.yaml: evaluate.resamples: ")
    assert "is valid" not in capsys.readouterr().out


def sentence_of(content: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        validate.validate(content)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("source", ["data/raw/ecg5000.zip", "data/features/x", "data"])
def test_download_that_starts_from_nothing_known(source: str) -> None:
    """What no stage makes, or the download itself."""
    content = parameters.content()
    content["datasets"]["ecg5000"]["download"]["source"] = source
    assert sentence_of(content) == (
        f"params.yaml: datasets.ecg5000.download.source: {source} is not what a stage can start from "
        f"here (known: data/raw/ptbxl.zip, data/raw/machine_sound.zip, data/features/machine_sound)"
    )


def test_an_address_is_no_source() -> None:
    """DVC would ask it at every status, and nothing would hold what it serves to a hash."""
    content = parameters.content()
    content["datasets"]["ecg5000"]["download"]["source"] = "https://example.org/ecgs.zip"
    assert "datasets.ecg5000.download.source: " in sentence_of(content)


def test_a_source_that_is_not_here_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No error: who reviews parameters need not have the recordings."""
    monkeypatch.chdir(ROOT)
    content = parameters.content()
    validate.validate(content)
    assert not capsys.readouterr().out
    content["datasets"]["ecg5000"]["download"]["source"] = "/recordings/ecgs"
    validate.validate(content)
    assert "datasets.ecg5000.download.source: /recordings/ecgs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "recordings",
    [
        "data/raw/ptbxl.zip",
        "data/raw/ecg5000",
        "data/features/machine_sound",
        "data/features/x",
        "",
    ],
)
def test_normalize_that_starts_from_nothing_known(recordings: str) -> None:
    """Another data set's pack, or features that nobody extracts."""
    content = parameters.content()
    content["datasets"]["ecg5000"]["normalize"]["recordings"] = recordings
    assert sentence_of(content) == (
        f"params.yaml: datasets.ecg5000.normalize.recordings: {recordings} is not what a stage can "
        f"start from here (known: data/raw/ecg5000.zip)"
    )


def test_features_to_start_from() -> None:
    """A data set's own normalize and any data set's download may start from what extract_features makes
    of it; another's normalize may not."""
    content = parameters.content()
    assert validate.validate(content) == (3, 6)
    content["datasets"]["ptbxl"]["download"]["source"] = "data/features/machine_sound"
    assert validate.validate(content) == (3, 6)
    content["datasets"]["machine_sound"]["normalize"]["recordings"] = "data/raw/machine_sound.zip"
    assert validate.validate(content) == (3, 6)
    content["datasets"]["ptbxl"]["normalize"]["recordings"] = "data/features/machine_sound"
    found = sentence_of(content)
    assert found.endswith("start from here (known: data/raw/ptbxl.zip)")


def test_parameters_of_features() -> None:
    """Parameters are those of the kind, less the names of modules: unknown and missing ones are named."""
    content = parameters.content()
    content["extract_features"]["machine_sound"] = {**SOUND, "mells": 3}
    expected = "params.yaml: extract_features.machine_sound.mells: unknown parameter"
    assert sentence_of(content).startswith(expected)
    for key in SOUND.keys() - {"module", "kind"}:
        rest = {name: value for name, value in SOUND.items() if name != key}
        content["extract_features"]["machine_sound"] = rest
        expected = f"params.yaml: extract_features.machine_sound.{key}: missing, add it"
        assert sentence_of(content) == expected


def test_models_without_data_sets() -> None:
    """A model that is trained on nothing, written as {} or as nothing, is no mistake and no run."""
    content = parameters.content()
    content["train"] = {"cnn": {}, "lstm": None}
    content["serve"]["features"] = None
    assert validate.validate(content) == (3, 0)


def test_the_model_behind_predict_is_trained() -> None:
    """Who removes a model, and serves it still, reads which key to change."""
    content = parameters.content()
    content["serve"]["features"] = "ecg5000/mlp"
    with pytest.raises(
        UserError, match=r"serve\.features: ecg5000/mlp is not trained.*known: ecg5000/cnn"
    ):
        validate.validate(content)
