"""Networks that are the mean of several, or calibrated: what they predict, saved and exported too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.special import expit, logit, softmax
from torch import nn

from beatline import bundle
from beatline.bundle.combined import Combined, as_trained
from beatline.common.errors import UserError
from beatline.prediction import losses
from beatline.prediction.tasks import TASKS
from tests.bundle.bundles import CHANNELS, HISTORY, LENGTH, made, raw_recordings
from tests.parameters import ARCHITECTURES

MODEL_OF = {
    "multilabel": "cnn",
    "binary": "lstm",
    "multiclass": "cnn_lstm",
    "reconstruction": "autoencoder",
    "neighbours": "embedding",
}
NEAREST = {
    "name": "autoencoder",
    "parameters": {**ARCHITECTURES["autoencoder"], "score": "nearest"},
}
CLASSIFICATIONS = ("multilabel", "binary", "multiclass")


def several(task: str, number: int = 3, **changes: Any) -> tuple[list[nn.Module], dict[str, Any]]:
    """So many networks of one task that predict differently, and the description of the first."""
    networks: list[nn.Module] = []
    _, description = made(MODEL_OF[task], task, **changes)
    for seed in range(number):
        network, _ = made(MODEL_OF[task], task, **changes)
        with torch.no_grad():
            for tensor in network.parameters():
                tensor += 0.1 * torch.randn(tensor.shape, generator=torch.manual_seed(seed))
        networks.append(network.eval())
    return networks, description


def members(number: int) -> list[dict[str, Any]]:
    return [{"seed": n, "weights_sha256": f"{n:064x}"} for n in range(number)]


def windows(scale: float = 1.0) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(scale * rng.standard_normal((7, 10, len(CHANNELS)))).float()


@torch.inference_mode()
def predictions(network: nn.Module, task: str, inputs: torch.Tensor) -> np.ndarray:
    return losses.for_task(TASKS[task]).predict(network.eval()(inputs), inputs).numpy()


@pytest.mark.parametrize("task", MODEL_OF)
def test_the_mean_is_that_of_the_predictions(task: str) -> None:
    """Of probabilities, scores and reconstructions, for certain answers too, of which a network's float32
    probabilities are 0 or 1 exactly."""
    networks, description = several(task)
    classes = len(description["classes"])
    combined = Combined(networks, TASKS[task], classes, calibrated=False)
    for scale in (1.0, 100.0):
        inputs = windows(scale)
        found = predictions(combined, task, inputs)
        if task == "reconstruction":
            with torch.inference_mode():
                copies = [network(inputs).numpy() for network in networks]
            expected = ((np.mean(copies, axis=0) - inputs.numpy()) ** 2).mean(axis=(1, 2))[:, None]
        else:
            expected = np.mean([predictions(each, task, inputs) for each in networks], axis=0)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert np.isfinite(found).all()


def test_scores_beside_a_reconstruction_have_a_mean_too(tmp_path: Path) -> None:
    """Of an autoencoder that is scored by distances: of both that it gives, saved and exported."""
    networks, description = several("reconstruction", architecture=NEAREST)
    combined = Combined(networks, TASKS["reconstruction"], 1, calibrated=False)
    expected = np.mean(
        [predictions(each, "reconstruction", windows()) for each in networks], axis=0
    )
    assert predictions(combined, "reconstruction", windows()) == pytest.approx(expected)
    bundle.save(tmp_path / "saved", combined, description | {"members": members(3)}, HISTORY)
    loaded = bundle.load(tmp_path / "saved")
    assert predictions(loaded.network, "reconstruction", windows()) == pytest.approx(expected)
    session = onnxruntime.InferenceSession((tmp_path / "saved" / bundle.GRAPH).read_bytes())
    names = ["answers", "reconstruction"]
    answers, copies = session.run(names, {"windows": windows().numpy()})
    assert answers == pytest.approx(expected, rel=1e-5, abs=1e-5)
    with torch.inference_mode():
        parts = [losses.reconstruction(network(windows())).numpy() for network in networks]
    assert copies == pytest.approx(np.mean(parts, axis=0), abs=1e-5)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("task", CLASSIFICATIONS)
def test_a_temperature_divides_the_logits(task: str, number: int) -> None:
    """Compared with scipy's own functions; one above 1 makes every answer less sure."""
    networks, description = several(task, number)
    combined = Combined(networks, TASKS[task], len(description["classes"]), calibrated=True)
    before = predictions(combined, task, windows())
    combined.temperature.copy_(torch.linspace(1.5, 3.0, len(combined.temperature)))
    after, temperature = predictions(combined, task, windows()), combined.temperature.numpy()
    if task == "multiclass":
        expected = softmax(np.log(before) / temperature, axis=1)
        assert len(temperature) == 1 and (after.max(axis=1) < before.max(axis=1)).all()
    else:
        expected = expit(logit(before) / temperature)
        assert (np.abs(after - 0.5) < np.abs(before - 0.5)).all()
    assert after == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("task", MODEL_OF)
def test_saved_loaded_and_exported(task: str, calibrated: bool, tmp_path: Path) -> None:
    """The bundle of a mean answers as it did before it was saved, and its graph as it does."""
    if calibrated and task not in CLASSIFICATIONS:
        return
    networks, description = several(task)
    classes = len(description["classes"])
    combined = Combined(networks, TASKS[task], classes, calibrated=calibrated)
    description |= {"members": members(3)}
    if calibrated:
        combined.temperature.fill_(1.7)
        description |= {"temperature": combined.temperature.tolist()}
    bundle.save(tmp_path / "saved", combined, description, HISTORY)
    loaded = bundle.load(tmp_path / "saved")
    expected = predictions(combined, task, windows())
    assert predictions(loaded.network, task, windows()).tobytes() == expected.tobytes()
    session = onnxruntime.InferenceSession((tmp_path / "saved" / bundle.GRAPH).read_bytes())
    answers = session.run(["answers"], {"windows": windows().numpy()})[0]
    assert answers == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert loaded.predict(raw_recordings()).values.shape == (len(raw_recordings()), classes)
    uncalibrated = loaded.uncalibrated()
    assert (uncalibrated is not None) == calibrated
    if uncalibrated:
        plain = Combined(networks, TASKS[task], classes, calibrated=False)
        found = predictions(uncalibrated.network, task, windows())
        assert found == pytest.approx(predictions(plain, task, windows()), abs=1e-7)
        assert predictions(loaded.network, task, windows()).tobytes() == expected.tobytes()


def test_one_network_is_as_it_was_trained(tmp_path: Path) -> None:
    """Of a bundle without mean and temperature nothing changes; one with a temperature gives the network
    back that training can start from."""
    network, description = made()
    bundle.save(tmp_path / "plain", network, description, HISTORY)
    plain = bundle.load(tmp_path / "plain").network
    assert type(plain) is type(network) and as_trained(plain) is plain
    combined = Combined([network], TASKS["multilabel"], 3, calibrated=True)
    described = {**description, "temperature": [2.0, 2.0, 2.0]}
    bundle.save(tmp_path / "calibrated", combined.eval(), described, HISTORY)
    again = as_trained(bundle.load(tmp_path / "calibrated").network).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(again[name], tensor)


def test_another_number_of_networks_is_refused(tmp_path: Path) -> None:
    """A model.json that says other members than the weights have."""
    networks, description = several("multilabel")
    combined = Combined(networks, TASKS["multilabel"], 3, calibrated=False)
    bundle.save(tmp_path / "saved", combined, {**description, "members": members(2)}, HISTORY)
    with pytest.raises(UserError, match="weights"):
        bundle.load(tmp_path / "saved")


def test_length_is_free_where_the_networks_are() -> None:
    """A mean fits whatever its networks fit."""
    networks, _ = several("multilabel")
    combined = Combined(networks, TASKS["multilabel"], 3, calibrated=False).eval()
    assert combined(torch.zeros(2, LENGTH, len(CHANNELS))).shape == (2, 3)
