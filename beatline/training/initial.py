"""Training that starts from the weights of another model: fine-tuning.

What both networks have is copied, tensor by tensor; the head, which is what depends on the classes, is
made anew where these differ, and of what depends on the leads those with the same name are taken. A
bundle that is trained again has other weights under the same name, and DVC does not watch it: so the
parameter names the weights too, and others are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from beatline import models
from beatline.bundle import model as bundle
from beatline.bundle.combined import as_trained
from beatline.bundle.model_info import (
    DESCRIPTION,
    FOLDER,
    SEEDS,
    WEIGHTS_SHA256,
    read_model_info,
)
from beatline.common.errors import UserError, names_there_are

PATTERN = r"^[^@\s]+(@[0-9a-f]{8,64})?$"  # of the parameter: a bundle, and the sum of its weights
DIGITS = 12  # of that sum, in a message
# Of the architecture's hyperparameters those that no weight depends on.
FREE = ("dropout", "neighbours", "score", "state_rate")
_STATISTICS = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked)$")
Sizes = dict[str, torch.Size]


def described(initial: str, key: str) -> dict[str, Any]:
    """Return what model.json says of the model that a training starts from: its `bundle`, the SHA-256 of
    its weights, and of what data it is.

    `initial`: the folder of a bundle, or `<data set>/<model>`, with the first digits of that sum behind
    an @. `key`: where that stands, for errors. Raises UserError if there is no such bundle, or it has
    other weights.
    """
    place, _, digits = initial.partition("@")
    folder = _folder(place)
    try:
        info = read_model_info(folder)
    except UserError as error:
        raise UserError(f"{key}: {place} is no bundle to start from: {error}") from None
    weights = info[WEIGHTS_SHA256]
    if not digits or not weights.startswith(digits):
        has = f"{place} has the weights {weights[:DIGITS]}"
        raise UserError(f"{key}: {has}: write {place}@{weights[:DIGITS]} if those are meant")
    return {
        "bundle": place,
        WEIGHTS_SHA256: weights,
        "dataset": info["dataset"]["title"],
        "simulated": info["dataset"]["simulated"],
    }


def _folder(place: str) -> Path:
    folder = Path(place)
    return folder if (folder / DESCRIPTION).exists() else FOLDER / place


def apply(network: nn.Module, model_info: Mapping[str, Any], key: str) -> None:
    """Give a new `network`, which `model_info` describes, the weights of ``model_info["initial"]``.

    Raises UserError, naming the parameter `key`, if that bundle is damaged or changes meanwhile, is of
    another architecture, another sampling rate, or lacks one of the leads.
    """
    place = model_info["initial"]["bundle"]
    parent = bundle.load(_folder(place))
    info = parent.description
    if info[WEIGHTS_SHA256] != model_info["initial"][WEIGHTS_SHA256]:
        raise UserError(f"{key}: {place} was written while it was read: run the command again")
    where = f"{key}: {place}"
    _check_architecture(info["architecture"], model_info["architecture"], where)
    if members := info.get("members"):
        first = f"{place}/{SEEDS}/{members[0]['seed']}@{members[0][WEIGHTS_SHA256][:DIGITS]}"
        raise UserError(
            f"{where} is the mean of {len(members)} networks: start from one of them, such as {first}"
        )
    rates = [each["dataset"]["sampling_rate"] for each in (info, model_info)]
    if rates[0] != rates[1]:
        said = [f"{rate:g} Hz" if rate else "no sampling rate" for rate in rates]
        raise UserError(
            f"{where} has learned from recordings with {said[0]}, and these have {said[1]}: bring them "
            f"to one rate, or start from another model"
        )
    own, learned = network.state_dict(), as_trained(parent.network).state_dict()
    # Of what is no weight only statistics: a memory bank is built when all is learned.
    others = {name for name, _ in network.named_buffers() if not _STATISTICS.search(name)}
    names = [name for name in own if name not in others]
    of_classes = _depending(model_info, outputs=1)
    of_leads = _depending(model_info, channels=1)
    leads = [each["dataset"]["channels"] for each in (info, model_info)]
    if leads[0] != leads[1]:
        _check_leads(leads[0], leads[1], names[0] in of_leads, where)
    anew = of_classes if _outputs(info) != _outputs(model_info) else {}
    taken = {}
    for name in names:
        if name in anew:
            continue
        tensor = learned[name]
        if leads[0] != leads[1] and name in of_leads:
            tensor = _of_same_leads(tensor, own[name], of_leads[name], *leads)
        if tensor.shape != own[name].shape:
            shapes = " and ".join(str(list(each.shape)) for each in (tensor, own[name]))
            raise UserError(
                f"{where} does not fit ({name} has the shapes {shapes}): look at windows of one length, "
                f"or choose a pooling that fits any"
            )
        taken[name] = tensor
    network.load_state_dict({**own, **taken})


def _check_architecture(learned: Mapping[str, Any], own: Mapping[str, Any], where: str) -> None:
    if learned["name"] != own["name"]:
        raise UserError(
            f"{where} is {learned['name']}, and this is {own['name']}: start from a model of the "
            f"same kind"
        )
    for name, value in own["parameters"].items():
        if name not in FREE and learned["parameters"].get(name) != value:
            raise UserError(
                f"{where} has another architecture ({name} is {learned['parameters'].get(name)!r} there "
                f"and {value!r} here): give this one the same"
            )


def _outputs(info: Mapping[str, Any]) -> tuple[Any, ...]:
    return info["task"], info["classes"], info["sections"]


def _depending(
    model_info: Mapping[str, Any], *, outputs: int = 0, channels: int = 0
) -> dict[str, torch.Size]:
    """The tensors whose shapes change with one output, or one channel, more; and their shapes then."""
    same, other = (_shapes(model_info, *more) for more in ((0, 0), (outputs, channels)))
    return {name: shape for name, shape in other.items() if shape != same[name]}


def _shapes(model_info: Mapping[str, Any], outputs: int, channels: int) -> Sizes:
    architecture = model_info["architecture"]
    kind = models.module(architecture["name"])
    steps, width = bundle.shape_of(dict(model_info))
    count = len(model_info["sections"] or model_info["classes"])
    with torch.random.fork_rng(devices=[]):  # the network itself is drawn as if nothing was here
        network = models.create(
            kind,
            kind.Architecture.model_validate(architecture["parameters"]),
            (steps, width + channels),
            count + outputs,
            architecture["name"],
        )
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _check_leads(learned: list[str], own: list[str], can_choose: bool, where: str) -> None:
    if missing := [name for name in own if name not in learned]:
        raise UserError(
            f"{where} has not learned {missing[0]}{names_there_are(missing[0], learned)}: leave it out, "
            f"or start from another model"
        )
    if not can_choose:
        raise UserError(
            f"{where} looks at channels as an image, and has others ({', '.join(learned[:12])}): give it "
            f"the same, in the same order"
        )


def _of_same_leads(
    tensor: torch.Tensor,
    own: torch.Tensor,
    one_more: torch.Size,
    learned: list[str],
    here: list[str],
) -> torch.Tensor:
    """The parts of a tensor that belong to the leads `here`, in their order. Where a lead has several
    places, as in frames of some samples, those of one time step stand side by side."""
    for axis, (size, more) in enumerate(zip(own.shape, one_more, strict=True)):
        if steps := more - size:
            places = [step * len(learned) + learned.index(n) for step in range(steps) for n in here]
            tensor = tensor.index_select(axis, torch.tensor(places))
    return tensor


# ---------------------------------------------------------------- how fast, and what not at all


def check_frozen(network: nn.Module, names: Sequence[str], key: str) -> None:
    """Raise UserError, naming the parameter `key`, if a network has no module called by one of the
    `names`, or nothing would be left to learn."""
    modules = {name: module for name, module in network.named_modules() if name}
    for name in names:
        if name not in modules:
            raise UserError(f"{key}: the network has no {name}{names_there_are(name, modules)}")
    frozen = {id(each) for name in names for each in modules[name].parameters()}
    if all(id(each) in frozen for each in network.parameters()):
        raise UserError(f"{key}: nothing is left to be learned: freeze fewer modules")


@contextmanager
def frozen(network: nn.Module, names: Sequence[str]) -> Iterator[list[nn.Module]]:
    """Have the modules called `names`, and those in them, learn nothing within the block; gives them.
    What they know of batches is kept by :meth:`torch.nn.Module.eval`."""
    modules = [network.get_submodule(name) for name in names]
    for module in modules:
        module.requires_grad_(False)
    try:
        yield modules
    finally:
        for module in modules:
            module.requires_grad_(True)


@runtime_checkable
class WithOwnRates(Protocol):
    """A network of whose parameters some learn slower than the rest, and have no weight decay."""

    def own_rates(self) -> Mapping[str, float]:
        """Return the highest learning rates of these parameters, by name."""
        ...


def groups(network: nn.Module, rate: float, lowest: float) -> list[dict[str, Any]]:
    """The parameters that learn, in groups for an optimizer: the deepest at `rate`, the first layer at
    `lowest` of it, those between at rates of a geometric sequence; before those of a layer what has
    rates of its own (:class:`WithOwnRates`), so that the last group has `rate`. A layer is a module of
    the network, or of one of its sequences; what the network itself holds is a head."""
    learning = {name: each for name, each in network.named_parameters() if each.requires_grad}
    own = network.own_rates() if isinstance(network, WithOwnRates) else {}
    layers: dict[str, list[str]] = {}
    for name in sorted(learning, key=lambda name: "." not in name):  # the network's own come first
        layer = ".".join(name.split(".")[:-1][:2])
        layers.setdefault("" if lowest == 1 else layer, []).append(name)
    last = max(len(layers) - 1, 1)
    made = []
    for number, layer in enumerate(layers.values()):
        layer_rate = rate * lowest ** (1 - number / last)
        for highest in sorted({own.get(name, math.inf) for name in layer}):
            names = [name for name in layer if own.get(name, math.inf) == highest]
            group: dict[str, Any] = {
                "params": [learning[name] for name in names],
                "lr": min(layer_rate, highest),
            }
            made.append(group if highest == math.inf else {**group, "weight_decay": 0.0})
    return made
