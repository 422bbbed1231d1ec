"""Parameters of a training: what the block `training` says for all models, and what a model's own says.

A key that is left out is off, or has the default that stands here and beside each architecture.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model, model_validator

from beatline import models
from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.models import Learning
from beatline.prediction import devices
from beatline.training import initial
from beatline.training.augmentation import Augment


class Optimizer(Parameters):
    """`learning_rate` is the peak of the one-cycle schedule, the start of the others."""

    name: Literal["adamw", "adam", "sgd"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class Schedule(Parameters):
    """`one_cycle` (Smith & Topin 2018), by step; `reduce_on_plateau`, by epoch: a tenth of the rate
    after `patience` epochs without a better monitored value; `constant`."""

    name: Literal["one_cycle", "reduce_on_plateau", "constant"]
    patience: int = Field(ge=1)


def _is_absent(value: object) -> bool:
    return not value


class Train(Learning):
    """All parameters of a network's training but its architecture.

    `monitor`: the validation value whose best epoch is kept; `epoch` keeps the last one, for data so
    few that the best of many epochs is best by luck. `early_stopping`: epochs without a
    better one before training ends, 0 for never. `gradient_clip`: largest norm of the gradient, 0
    for none. `shards`: parts into which every batch is divided, and which several processes share.

    `initial`: the bundle whose weights training starts from (:mod:`beatline.training.initial`);
    `initial_rate`: the learning rate of its first layer, as a share of that of the last, between which
    it rises; `freeze`: modules that keep what they have learned there.
    """

    augment: Augment = Augment()
    optimizer: Optimizer
    schedule: Schedule
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    monitor: Literal["auc", "accuracy", "loss", "epoch"]
    early_stopping: int = Field(default=0, ge=0)
    gradient_clip: float = Field(default=0.0, ge=0)
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: devices.Precision = "auto"
    # One is no division: a bundle does not speak of it.
    shards: int = Field(default=1, ge=1, exclude_if=lambda shards: shards == 1)
    # Nor of what did not happen.
    initial: str | None = Field(default=None, pattern=initial.PATTERN, exclude_if=_is_absent)
    initial_rate: float = Field(default=1.0, gt=0, le=1, exclude_if=lambda rate: rate == 1)
    freeze: list[str] = Field(default_factory=list, exclude_if=_is_absent)

    @model_validator(mode="after")
    def _starts_from_something(self) -> Train:
        if self.initial is None and (self.freeze or self.initial_rate != 1):
            raise ValueError("initial must name a bundle, where freeze or initial_rate is given")
        return self

    @model_validator(mode="after")
    def _shards_fit(self) -> Train:
        if self.shards > 1 and 2 * self.shards > self.batch_size:
            raise ValueError(
                f"shards must be at most half of batch_size, {self.batch_size}: each needs two examples"
            )
        return self


SHARED = (
    "schedule",
    "early_stopping",
    "gradient_clip",
    "class_weights",
    "threshold_percentile",
    "precision",
    "shards",
    "seed",
)
_FIELDS: Any = {
    name: (Train.model_fields[name].annotation, Train.model_fields[name]) for name in SHARED
}
# The block `training`: one decision for all models.
Training = create_model("Training", __base__=Parameters, **_FIELDS)


def parameters_of(content: dict[str, Any], model: str, dataset: str) -> tuple[Parameters, Learning]:
    """The architecture and all other parameters of a training in the content of params.yaml.

    The block `train.<model>.<data set>` goes before `training`, of which a model takes what its schema
    knows: `Train`, unless its module has its own. Raises UserError, which names a wrong key where it
    stands.
    """
    key = f"train.{model}.{dataset}"
    block, module = params.block_of(content, key), models.module(model)
    if not isinstance(block, dict):
        raise UserError(f"{params.PATH}: {key} must be a mapping of parameters, not {block!r}")
    schema = getattr(module, "Train", Train)
    params.block(content, "training", Training)
    shared = {
        name: value for name, value in content["training"].items() if name in schema.model_fields
    }
    rest = {name: value for name, value in block.items() if name != "architecture"}
    architecture = params.validated(
        block.get("architecture", {}), f"{key}.architecture", module.Architecture
    )
    parameters = params.validated(_merged(shared, rest), key, schema)
    if module.LEARNS != "labels":
        _check_detector(block, key)
    return architecture, parameters


def _check_detector(block: dict[str, Any], key: str) -> None:
    """Raise UserError for what means nothing to a detector, in its own `block`."""
    for name in ("calibrate", "class_weights", "label_smoothing"):
        if block.get(name, "none") not in ("none", 0):
            raise UserError(
                f"{params.PATH}: {key}.{name}: a detector learns no labels and gives anomaly scores, no "
                f"probabilities: leave it out"
            )
    if block.get("monitor") == "accuracy":
        raise UserError(
            f"{params.PATH}: {key}.monitor: there is no accuracy before a detector has its threshold: "
            f"set it to auc, loss or epoch"
        )


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` where it says something, key by key, and `shared` elsewhere."""
    merged = shared | own
    for name in shared.keys() & own.keys():
        if isinstance(shared[name], dict) and isinstance(own[name], dict):
            merged[name] = _merged(shared[name], own[name])
    return merged
