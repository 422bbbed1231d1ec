"""Starting from another model: what is taken over, what is made anew, what keeps still, and refusals."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from beatline import bundle, models
from beatline.bundle.combined import Combined
from beatline.common.errors import UserError
from beatline.models import Examples
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.training import initial, loop
from beatline.training.parameters import Train
from tests.parameters import ARCHITECTURES, TRAIN, TRAINING
from tests.serving import project

LEADS, OTHERS, STEPS = ["I", "II", "III", "V1"], ["V1", "I", "III"], 40
CLASSIFIERS = ("cnn", "lstm", "cnn_lstm", "mlp", "s4")
KEY = "train.cnn.own.initial"


def info(
    name: str = "cnn",
    leads: list[str] = LEADS,
    classes: list[str] | None = None,
    rate: float = 100.0,
    **architecture: Any,
) -> dict[str, Any]:
    """What model.json would say of a model of recordings `[40, leads]`."""
    task = {"autoencoder": "reconstruction", "embedding": "neighbours"}.get(name, "multilabel")
    return {
        "architecture": {"name": name, "parameters": {**ARCHITECTURES[name], **architecture}},
        "task": task,
        "classes": classes or (["MI", "CD"] if task == "multilabel" else ["anomaly"]),
        "sections": ["first", "second"] if name == "embedding" else [],
        "thresholds": [0.5] * len(classes or "ab") if task == "multilabel" else [0.5],
        "windows": {"length": 0, "stride": 40, "aggregate": "mean"},
        "normalization": {
            "mean": [0.0] * len(leads),
            "standard_deviation": [1.0] * len(leads),
            "fill": [0.0] * len(leads),
            "constant_channels": [],
        },
        "dataset": {
            **project.DATASETS["ptbxl"],
            "title": "simulated ECGs",
            "source": "simulator",
            "simulated": True,
            "channels": leads,
            "length": STEPS,
            "sampling_rate": rate,
            "unit": "mV",
            "drawing": "trace",
            "representation": None,
            "typical": None,
        },
        "training": {"seed": 1},
        "parameters": 1,
        "best_epoch": 1,
        "identity": {"git": None, "data": "d", "code": "c", "environment": {}},
    }


def network(model_info: dict[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return bundle.network_of(model_info, "test")


def saved(folder: Path, model_info: dict[str, Any]) -> nn.Module:
    """A bundle whose network has seen something; the network, in evaluation mode."""
    learned = network(model_info, 7)
    with torch.no_grad():  # statistics of batches and a bias that are not those of the beginning
        learned.train()(torch.randn(16, STEPS, len(model_info["dataset"]["channels"])))
        for parameter in learned.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    bundle.save(folder, learned.eval(), model_info, pd.DataFrame({"epoch": [1]}))
    return learned


def started(folder: Path, own: dict[str, Any], seed: int = 1) -> nn.Module:
    """A network that starts from the bundle in a folder."""
    weights = bundle.load(folder).description[bundle.WEIGHTS_SHA256]
    own = {**own, "initial": initial.described(f"{folder}@{weights[:8]}", KEY)}
    made = network(own, seed)
    initial.apply(made, own, KEY)
    return made.eval()


@torch.inference_mode()
def outputs(each: nn.Module, recordings: torch.Tensor) -> torch.Tensor:
    return each(recordings)


@pytest.mark.parametrize("name", [*CLASSIFIERS, "autoencoder", "embedding"])
def test_it_begins_where_the_other_has_ended(name: str, tmp_path: Path) -> None:
    """The same recordings give the same outputs before anything is learned."""
    learned = saved(tmp_path / "parent", info(name))
    recordings = torch.randn(5, STEPS, len(LEADS))
    made = started(tmp_path / "parent", info(name))
    if name == "embedding":  # whose memory bank is built when all is learned
        learned.train()
        made.train()
    assert torch.equal(outputs(made, recordings), outputs(learned, recordings))


@pytest.mark.parametrize(
    ("first", "then"), [("reconstruction", "nearest"), ("nearest", "mahalanobis")]
)
def test_another_score_is_no_other_network(first: str, then: str, tmp_path: Path) -> None:
    """No weight depends on what an autoencoder is scored by: all of them are taken over, and its memory
    bank is not, which belongs to the recordings of the other."""
    learned = saved(tmp_path / "parent", info("autoencoder", score=first))
    made = started(tmp_path / "parent", info("autoencoder", score=then))
    for name, weights in learned.named_parameters():
        assert torch.equal(made.get_parameter(name), weights)
    assert not made.get_buffer("memory").any()


@pytest.mark.parametrize("name", [*CLASSIFIERS, "autoencoder"])
def test_leads_are_matched_by_name(name: str, tmp_path: Path) -> None:
    """A network of fewer leads in another order says what the other says where those that it lacks are
    zero, as leads without a signal are after normalization."""
    learned = saved(tmp_path / "parent", info(name))
    made = started(tmp_path / "parent", info(name, leads=OTHERS))
    own = torch.randn(5, STEPS, len(OTHERS))
    whole = torch.zeros(5, STEPS, len(LEADS))
    places = [LEADS.index(lead) for lead in OTHERS]
    whole[:, :, places] = own
    expected = outputs(learned, whole)
    expected = expected[:, :, places] if name == "autoencoder" else expected
    torch.testing.assert_close(outputs(made, own), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_other_classes_have_a_head_of_their_own(name: str, tmp_path: Path) -> None:
    """The last layer is drawn by the seed as it would be without, and nothing else is; so many classes
    as before, but others, are not told by what was learned of those."""
    learned = saved(tmp_path / "parent", info(name)).state_dict()
    for classes in (["AF", "SR", "PVC"], ["AF", "SR"]):
        own = info(name, classes=classes)
        first, second = (started(tmp_path / "parent", own, seed).state_dict() for seed in (1, 2))
        plain = network(own, 1).state_dict()
        differing = {each for each in first if not torch.equal(first[each], second[each])}
        assert differing == {each for each in first if each.startswith(_last_layer(first))}
        for each, tensor in first.items():
            expected = plain[each] if each in differing else learned[each]
            assert torch.equal(tensor, expected)


def _last_layer(state: dict[str, torch.Tensor]) -> str:
    return [*state][-1].rpartition(".")[0]


@pytest.fixture(scope="module")
def examples() -> Examples:
    generator = np.random.default_rng(1)
    signals = generator.standard_normal((48, STEPS, len(LEADS)), np.float32)
    targets = generator.integers(0, 2, (48, 2)).astype(np.float32)
    return Examples(Recordings(signals, np.arange(48), torch.device("cpu")), targets)


def learned_from(
    made: nn.Module, examples: Examples, **changes: Any
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    block = copy.deepcopy({**TRAINING, **TRAIN, "initial": "a/b", "epochs": 2, **changes})
    parameters = Train.model_validate(block)
    history, _ = loop.fit(made, TASKS["multilabel"], examples, examples, parameters)
    return made.state_dict(), history


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_frozen_keeps_still(shards: int, examples: Examples) -> None:
    """Weights and statistics of batches, also where they are the mean of what several shards say; the
    rest learns, and all of it can learn again afterwards."""
    made = network(info(), 1)
    before = copy.deepcopy(made.state_dict())
    after, _ = learned_from(made, examples, freeze=["features.0", "features.1"], shards=shards)
    same = {name for name in after if torch.equal(after[name], before[name])}
    still = {name for name in after if re.match(r"features\.[01]\.", name)}
    assert still and still <= same
    assert any(name.startswith("features.2") for name in after.keys() - same)
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_first_layers_learn_slower(examples: Examples) -> None:
    """Their rate rises from the first layer's to the last's, whose is the one in the history; a
    thousandth of it moves weights by about a thousandth."""
    made = network(info(), 1)
    rates = [group["lr"] for group in initial.groups(made, 0.01, 0.0001)]
    assert rates == sorted(rates) and rates[0] == pytest.approx(1e-6) and rates[-1] == 0.01
    grouped = [id(each) for group in initial.groups(made, 1, 0.5) for each in group["params"]]
    assert sorted(grouped) == sorted(id(each) for each in made.parameters())
    before = copy.deepcopy(made.state_dict())
    after, history = learned_from(made, examples, initial_rate=0.001)
    assert (history["learning_rate"] == TRAIN["optimizer"]["learning_rate"]).all()
    moved = {
        name: float((after[name] - before[name]).abs().max()) for name, _ in made.named_parameters()
    }
    first, last = next(iter(moved)), [*moved][-1]
    assert 0 < moved[first] < 0.01 * moved[last]


@pytest.mark.parametrize("name", ["lstm", "s4", "embedding"])
def test_a_layer_has_one_rate(name: str) -> None:
    """All weights of a layer; the head, which may be made anew, has the highest, wherever it is kept."""
    made = network(info(name), 1)
    rate_of = {
        id(parameter): group["lr"]
        for group in initial.groups(made, 0.01, 0.1)
        if "weight_decay" not in group
        for parameter in group["params"]
    }
    rates: dict[str, set[float]] = {}
    for each, parameter in made.named_parameters():
        if rate := rate_of.get(id(parameter)):
            rates.setdefault(each.rpartition(".")[0], set()).add(rate)
    assert {len(found) for found in rates.values()} == {1}
    head = {"lstm": "head.1", "s4": "head", "embedding": ""}[name]
    assert rates[head] == {0.01} == {max(map(max, rates.values()))}


def test_one_cycle_has_each_layers_peak(examples: Examples) -> None:
    """The schedule by steps goes up to the rate of each group and not to one of all."""
    made = network(info(), 1)
    schedule = {"name": "one_cycle", "patience": 1}
    _, history = learned_from(made, examples, initial_rate=0.1, schedule=schedule)
    assert history["learning_rate"].max() <= TRAIN["optimizer"]["learning_rate"]


@pytest.mark.parametrize(
    ("own", "named"),
    [
        (info("lstm"), "lstm"),
        (info(leads=["I", "aVR"]), "aVR"),
        (info(rate=500.0), "500 Hz"),
        (info(filters=[4, 6]), "filters"),
        (info(strides=[2, 2]), "strides"),
    ],
    ids=["another kind", "another lead", "another rate", "other filters", "other strides"],
)
def test_what_does_not_fit_is_refused(own: dict[str, Any], named: str, tmp_path: Path) -> None:
    """Also where tensors would fit, as with other strides: what they have learned would mean nothing."""
    saved(tmp_path / "parent", info())
    with pytest.raises(UserError, match=named) as raised:
        started(tmp_path / "parent", own)
    assert str(raised.value).startswith(KEY)


def test_a_mean_names_the_networks_to_start_from(tmp_path: Path) -> None:
    """One of them can be started from, with or without a temperature; their mean cannot."""
    described = info()
    networks = [network(described, seed) for seed in (1, 2)]
    combined = Combined(networks, TASKS["multilabel"], 2, calibrated=True)
    sums = [f"{number:064x}" for number in (1, 2)]
    members = [{"seed": 3, "weights_sha256": each} for each in sums]
    mean = {**described, "temperature": [1.0, 1.0], "members": members}
    bundle.save(tmp_path / "mean", combined, mean, pd.DataFrame({"epoch": [1]}))
    with pytest.raises(UserError, match=f"mean/seeds/3@{sums[0][:12]}"):
        started(tmp_path / "mean", described)
    one = Combined(networks[:1], TASKS["multilabel"], 2, calibrated=True)
    calibrated = {**described, "temperature": [2.0, 2.0]}
    bundle.save(tmp_path / "one", one, calibrated, pd.DataFrame({"epoch": [1]}))
    made = started(tmp_path / "one", described)
    for name, tensor in networks[0].state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "change"), [("cnn", {"dropout": 0.1}), ("s4", {"state_rate": 0.01})]
)
def test_what_no_weight_depends_on_may_differ(
    name: str, change: dict[str, Any], tmp_path: Path
) -> None:
    """Such as dropout, or a learning rate."""
    saved(tmp_path / "parent", info(name))
    started(tmp_path / "parent", info(name, **change))


def test_images_have_their_channels(tmp_path: Path) -> None:
    """Where channels are the columns of an image, a network fits any number of them, and would look for
    what it knows in the wrong places."""
    flat = {"dimensions": 2, "blocks": "plain", "stem_kernel": 0, "kernels": [3, 3]}
    saved(tmp_path / "parent", info(**flat))
    with pytest.raises(UserError, match="image"):
        started(tmp_path / "parent", info(leads=OTHERS, **flat))


@pytest.mark.parametrize("given", ["nowhere/cnn@12345678", "parent", "parent@00000000"])
def test_which_weights_are_meant_is_said(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that is not there, or whose weights are not those that the parameter names, or that it
    names without weights: DVC would not see that it has changed. The cure can be pasted."""
    monkeypatch.chdir(tmp_path)
    saved(Path("parent"), info())
    with pytest.raises(UserError) as raised:
        initial.described(given, KEY)
    assert str(raised.value).startswith(f"{KEY}: {given.partition('@')[0]} ")
    if given.startswith("parent"):
        cure = re.search(r"parent@[0-9a-f]+", str(raised.value))
        assert cure and initial.described(cure[0], KEY)["bundle"] == "parent"


def test_names_of_modules() -> None:
    """One that there is not, and all that there are."""
    made = network(info(), 1)
    initial.check_frozen(made, ["features"], KEY)
    for names in (["feature"], ["features", "head"]):
        with pytest.raises(UserError, match=KEY):
            initial.check_frozen(made, names, KEY)


@pytest.mark.parametrize("change", [{"freeze": ["head"]}, {"initial_rate": 0.1}])
def test_nothing_is_frozen_at_random(change: dict[str, Any]) -> None:
    """A layer that keeps the weights that it was drawn with, or learns them slowly, is a mistake."""
    with pytest.raises(ValueError, match="initial"):
        Train.model_validate({**TRAINING, **TRAIN, **change})


def test_models_lists_nothing_that_cannot_start(tmp_path: Path) -> None:
    """Every network that the loop trains can start from another one of its kind."""
    for name in (*CLASSIFIERS, "autoencoder", "embedding"):
        assert not hasattr(models.module(name), "fit")
        saved(tmp_path / name, info(name))
        started(tmp_path / name, info(name))
