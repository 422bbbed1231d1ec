"""Autoencoders in one and two dimensions: layer by layer, for any window, their scores against
scikit-learn, and on a real bearing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import nn

from beatline import bundle, models
from beatline.common.errors import UserError
from beatline.export import onnx_graph, session
from beatline.models import _distances
from beatline.models.autoencoder import Architecture
from beatline.prediction import losses
from beatline.prediction.tasks import TASKS
from tests.bundle.bundles import HISTORY, made, raw_recordings
from tests.models import detectors
from tests.parameters import ARCHITECTURES

IN_TWO = {"dimensions": 2, "filters": [32, 64, 128, 256], "kernel": 3, "code": 40}
IN_ONE = {"dimensions": 1, "filters": [4, 5, 3], "kernel": 5, "code": 0}
SMALL_IN_TWO = {"dimensions": 2, "filters": [3, 4], "kernel": 3, "code": 5}
SCORES = [{"score": "mahalanobis"}, {"score": "nearest", "neighbours": 3}]


def create(architecture: dict[str, Any], shape: models.Shape) -> Any:
    return detectors.create("autoencoder", architecture, shape, 1)


def windows(batch: int, length: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


def test_two_dimensional_layers() -> None:
    """1-32-64-128-256-z of stride 2 with batch norm and ReLU, dense to z = 40, and the mirror: written
    out with the same weights, the outputs are equal."""
    network = create(IN_TWO, (64, 128)).train()
    widths = [1, 32, 64, 128, 256]
    down: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        down += [nn.Conv2d(wide, narrow, 3, 2, 1), nn.BatchNorm2d(narrow), nn.ReLU()]
    up: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths[:0:-1]):
        up += [nn.ConvTranspose2d(narrow, wide, 3, 2, 1, 1), nn.BatchNorm2d(wide), nn.ReLU()]
    reference = nn.Sequential(
        *[*down, nn.Flatten(), nn.Linear(256 * 4 * 8, 40)],
        *[nn.Linear(40, 256 * 4 * 8), nn.Unflatten(1, (256, 4, 8))],
        *[*up, nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)],
    )
    state = zip(reference.state_dict(), network.state_dict().values(), strict=True)
    reference.load_state_dict(dict(state))
    given_windows = windows(3, 64, 128)
    expected = reference(given_windows.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(network(given_windows), expected, rtol=1e-4, atol=1e-4)


def test_one_dimension_is_drawn_as_it_always_was() -> None:
    """Trained models depend on the names of the tensors and on the order in which they are drawn."""
    torch.manual_seed(7)
    first, down = nn.Conv1d(3, 4, 5, 2, 2), None
    last = nn.ConvTranspose1d(4, 3, 5, 2, 2, 1)
    down, up = nn.Conv1d(4, 2, 5, 2, 2), nn.ConvTranspose1d(2, 4, 5, 2, 2, 1)
    torch.manual_seed(7)
    state = create({**IN_ONE, "filters": [4, 2]}, (20, 3)).state_dict()
    layers = {"encoder.0": first, "encoder.3": down, "decoder.0": up, "decoder.3": last}
    normalizations = {name for name in state if name.split(".", 2)[1] == "1"}
    assert {f"{at}.{part}" for at in layers for part in ("weight", "bias")} == (
        set(state) - normalizations
    )
    for at, layer in layers.items():
        assert torch.equal(state[f"{at}.weight"], layer.weight)
        assert torch.equal(state[f"{at}.bias"], layer.bias)


@settings(max_examples=40)
@given(
    dimensions=st.sampled_from([1, 2]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    kernel=st.integers(2, 6),
    code=st.integers(0, 3),
)
def test_gives_back_any_window(
    dimensions: int, shape: tuple[int, int], kernel: int, code: int
) -> None:
    """`[B, T, C]` in, `[B, T, C]` out, whatever strides need to be filled up."""
    architecture = {"dimensions": dimensions, "kernel": kernel, "code": code}
    network = create({**architecture, "filters": [2, 3]}, shape).eval()
    found = network(windows(2, *shape))
    assert found.shape == (2, *shape)
    assert torch.isfinite(found).all()


def test_finds_what_it_never_saw() -> None:
    """Trained by the project's loop on normal spectrograms, it reconstructs others less well."""
    architecture = {**IN_TWO, "filters": [8, 16], "code": 8}
    found = detectors.trained_on_toys("autoencoder", architecture, epochs=20)
    assert found.auc() > 0.9
    assert found.normal.mean() < 0.9  # the variance of the input is 1: it learned something


@detectors.needs_bearing
@pytest.mark.parametrize("score", [{}, *SCORES])
def test_finds_every_damage_of_a_real_bearing(score: dict[str, Any]) -> None:
    """Eight healthy clips of a quarter of a second are enough to tell all damages from health."""
    found = detectors.trained_on_bearing("autoencoder", IN_TWO | score, epochs=20)
    assert found.auc() >= 0.99
    assert np.median(found.anomalous) > 2 * found.normal.max()


# ------------------------------------------------------------------------- scores by distance


def knowing(architecture: dict[str, Any], known: torch.Tensor) -> Any:
    """A network, in evaluation mode, that has its memory bank of `known` windows."""
    network = create(architecture, (known.shape[1], known.shape[2])).eval()
    with torch.inference_mode():
        network.build_memory_bank(known.split(7))
    return network


@pytest.mark.parametrize("known", [300, 20])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shape", [IN_ONE, SMALL_IN_TWO])
def test_scores_are_scikit_learns_distances(
    shape: dict[str, Any], score: dict[str, Any], known: int
) -> None:
    """Of bottleneck, mean and deviation, by the Ledoit-Wolf covariance of the standardized columns: to
    their mean by its `mahalanobis`, to the nearest by its search; for more and for fewer windows than
    dimensions. The reconstruction stays what it is without a score."""
    learned = torch.randn(known, 16, 8, generator=torch.Generator().manual_seed(1))
    asked = 2 * windows(9, 16, 8)
    network = knowing(shape | score, learned)
    with torch.inference_mode():
        reconstruction, scores = network(asked)
        signals = [
            each.unsqueeze(1) if shape["dimensions"] == 2 else each.transpose(1, 2)
            for each in (learned, asked)
        ]
        codes = [network.encoder(each).flatten(1) for each in signals]
        plain = create(shape, (16, 8)).eval()
        plain.load_state_dict(network.state_dict(), strict=False)
        assert torch.equal(reconstruction, plain(asked))
    rows, queries = (
        np.concatenate([code, each.mean(1), each.var(1, correction=0).add(1e-5).sqrt()], axis=1)
        for code, each in zip(codes, (learned, asked), strict=True)
    )
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    rows, queries = (rows - centre) / spread, (queries - centre) / spread
    fitted = LedoitWolf(assume_centered=True).fit(rows)
    if score["score"] == "mahalanobis":
        expected = fitted.mahalanobis(queries)
    else:
        search = NearestNeighbors(
            n_neighbors=3, metric="mahalanobis", metric_params={"VI": fitted.precision_}
        )
        expected = (search.fit(rows).kneighbors(queries)[0] ** 2).mean(axis=1)
    np.testing.assert_allclose(scores[:, 0], expected / rows.shape[1], rtol=2e-3)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shape", [IN_ONE, SMALL_IN_TWO])
def test_a_scored_window_is_alone_and_exported(
    shape: dict[str, Any], score: dict[str, Any]
) -> None:
    """Others in the batch change nothing, in training it gives the reconstruction alone, and the ONNX
    graph gives both to 1e-5, within the limits that the service holds it to."""
    network = knowing(shape | score, windows(40, 18, 6))
    asked = 3 * windows(5, 18, 6)
    task = TASKS["reconstruction"]
    with torch.inference_mode():
        reconstruction, scores = network(asked)
        assert scores.shape == (5, 1)
        predicted = losses.for_task(task).predict((reconstruction, scores), asked)
        assert torch.equal(predicted, scores)
        for number in range(5):
            alone = network(asked[number : number + 1])
            torch.testing.assert_close(alone[0][0], reconstruction[number])
            torch.testing.assert_close(alone[1][0], scores[number], rtol=1e-5, atol=1e-5)
    graph = session.open_session(onnx_graph.export(network, task, (18, 6)))
    answers, copies = graph.run(
        [session.ANSWERS, session.RECONSTRUCTION], {session.WINDOWS: asked.numpy()}
    )
    np.testing.assert_allclose(np.asarray(answers), scores, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(copies), reconstruction, atol=1e-5)
    assert isinstance(network.train()(asked), torch.Tensor)


@pytest.mark.parametrize("score", SCORES)
def test_a_bundle_scores_as_its_network(tmp_path: Path, score: dict[str, Any]) -> None:
    """Saved and loaded, the scores are the same to the bit, on a scale of their own, and there is still
    a reconstruction with its error."""
    parameters = ARCHITECTURES["autoencoder"] | score
    architecture = {"name": "autoencoder", "parameters": parameters}
    network, model_info = made("autoencoder", "reconstruction", architecture=architecture)
    expected = bundle.Bundle(network.eval(), model_info).predict(raw_recordings())
    bundle.save(tmp_path / "model", network, model_info, HISTORY)
    loaded = bundle.load(tmp_path / "model")
    answers = loaded.predict(raw_recordings())
    assert np.array_equal(answers.values, expected.values)
    assert (tmp_path / "model" / bundle.GRAPH).exists()
    signals = loaded.normalization.apply(raw_recordings())
    copies, errors = loaded.reconstruct(signals)
    assert copies.shape == errors.shape == signals.shape
    by_error, _ = made("autoencoder", "reconstruction")
    other = bundle.Bundle(by_error.eval(), model_info).predict(raw_recordings())
    assert not np.allclose(answers.values, other.values, rtol=0.05)


def test_what_is_not_asked_for_is_not_in_a_bundle() -> None:
    """model.json and the weights of a network scored by its reconstruction are those from before there
    was anything else."""
    parameters = {**IN_ONE, "code": 0}
    assert Architecture.model_validate(parameters).model_dump() == parameters
    asked = {**parameters, "score": "reconstruction", "neighbours": 1}
    assert Architecture.model_validate(asked).model_dump() == parameters
    scored = {**parameters, **SCORES[1]}
    assert Architecture.model_validate(scored).model_dump() == scored
    names = create(IN_ONE, (20, 3)).state_dict().keys()
    assert create(scored, (20, 3)).state_dict().keys() - names == {"centre", "whitening", "memory"}


def test_scores_that_cannot_be() -> None:
    """Neighbours of what has none, and a bottleneck too wide for its covariance, by their keys."""
    for score in ("reconstruction", "mahalanobis"):
        with pytest.raises(ValidationError, match=f"neighbours .* nearest, and not {score}"):
            Architecture.model_validate({**IN_ONE, "score": score, "neighbours": 2})
    with pytest.raises(UserError, match=r"score .* 2,048 .* set code"):
        create({**IN_TWO, "code": 0, "score": "nearest"}, (64, 128))


def test_a_memory_bank_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more windows than the ONNX graph should hold a part is kept, the same each time, from all over
    the training records; the spread is that of all."""
    known = windows(64, 16, 6)
    network = knowing({**SMALL_IN_TWO, "score": "nearest"}, known)
    whole, size = network.memory.clone(), network.memory.shape[1]
    monkeypatch.setattr(_distances, "MOST_VALUES", 10 * size + 1)
    parts = []
    for _ in range(2):
        with torch.inference_mode():
            network.build_memory_bank([known])
        parts.append(network.memory)
    assert len(whole) == 64 and parts[0].shape == (10, size)
    assert torch.equal(*parts)
    kept = torch.cdist(parts[0], whole).argmin(dim=1).tolist()
    torch.testing.assert_close(parts[0], whole[kept])  # of embeddings in other batches
    assert kept == sorted(set(kept)) and kept[0] < 32 <= kept[-1]
