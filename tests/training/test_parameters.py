"""The block `training` and a model's own block of params.yaml make all parameters of a training."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ruamel.yaml import YAML

from beatline import models
from beatline.common.errors import UserError
from beatline.models import Learning
from beatline.training.parameters import Train, parameters_of
from tests import parameters
from tests.paths import ROOT

EXAMPLES = YAML(typ="safe").load((ROOT / "tests/training/trainings.yaml").read_text())
LENGTHS = {"ecg5000": 140, "ecg_features": 1, "machine_sound": 126, "mnist": 28, "ptbxl": 1000}


@pytest.mark.parametrize("training", EXAMPLES["resolved"])
def test_what_is_left_out_is_what_once_stood_there(training: str) -> None:
    """Defaults, `training` and deviations make the parameters, their types and their order that stood in
    model.json when each block of params.yaml repeated them: the bytes of bundles depend on them."""
    model, dataset = training.split(".")
    architecture, found = parameters_of(EXAMPLES["written"], model, dataset)
    windows = found.windows.completed(LENGTHS[dataset], "windows")
    resolved = found.model_copy(update={"windows": windows}).model_dump()
    complete = {"architecture": architecture.model_dump(), "training": resolved}
    assert json.dumps(complete) == json.dumps(EXAMPLES["resolved"][training])


def content(**own: Any) -> dict[str, Any]:
    """Parameters in which the cnn of ecg5000 says `own` besides what it must."""
    made = parameters.content()
    made["train"]["cnn"]["ecg5000"] |= own
    return made


def test_a_block_may_deviate_from_what_is_decided_for_all() -> None:
    """In one key of a mapping too, and for itself alone."""
    made = content(schedule={"name": "one_cycle"}, gradient_clip=2.0)
    _, own = parameters_of(made, "cnn", "ecg5000")
    _, other = parameters_of(made, "lstm", "ecg5000")
    assert isinstance(own, Train) and isinstance(other, Train)
    assert (own.schedule.name, own.schedule.patience, own.gradient_clip) == ("one_cycle", 1, 2.0)
    assert (other.schedule.name, other.gradient_clip) == ("constant", 0.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schedule": {"name": "one"}}, "training.schedule.name: should be 'one_cycle'"),
        ({"schedule": None}, "training.schedule: should be a valid dictionary"),
        ({"gradient_clp": 1.0}, "training.gradient_clp: unknown parameter (did you mean grad"),
        ({"epochs": 3}, "training.epochs: unknown parameter"),
        ({"seed": "1"}, "training.seed: should be a valid integer, not '1'"),
    ],
)
def test_a_mistake_in_what_is_decided_for_all_is_named_there(
    change: dict[str, Any], expected: str
) -> None:
    """Not where a model takes it from, even if that model says otherwise."""
    made = content(schedule={"name": "constant"})
    made["training"] |= change
    with pytest.raises(UserError) as error:
        parameters_of(made, "cnn", "ecg5000")
    assert str(error.value).startswith(f"params.yaml: {expected}")


def test_what_all_need_must_stand_in_training() -> None:
    """There is no silent default of what is not simply off."""
    made = content()
    del made["training"]["threshold_percentile"]
    with pytest.raises(UserError, match=r"training\.threshold_percentile: missing, add it"):
        parameters_of(made, "cnn", "ecg5000")


@pytest.mark.parametrize("block", [None, [], "x"])
def test_a_block_that_is_none_is_named(block: Any) -> None:
    """A block is null when all keys below it are commented out."""
    made = content()
    made["train"]["cnn"]["ecg5000"] = block
    with pytest.raises(UserError, match=r"train\.cnn\.ecg5000 must be a mapping"):
        parameters_of(made, "cnn", "ecg5000")


def test_a_model_has_its_own_parameters() -> None:
    """A model that is not trained by gradient descent has its own schema, and takes from `training` what
    it knows."""
    own: dict[str, Any] = {"l2": 1.0, "iterations": 10}
    shared = {**parameters.TRAINING, "class_weights": "balanced"}
    made: dict[str, Any] = {"training": shared, "train": {"logistic_regression": {"a": own}}}
    _, found = parameters_of(made, "logistic_regression", "a")
    module = models.module("logistic_regression")
    assert isinstance(found, module.Train) and isinstance(found, Learning)
    assert found.model_dump()["class_weights"] == "balanced"
    for name in ("epochs", "gradient_clip"):
        own[name] = 3
        wrong = rf"train\.logistic_regression\.a\.{name}: unknown parameter"
        with pytest.raises(UserError, match=wrong):
            parameters_of(made, "logistic_regression", "a")
        del own[name]
