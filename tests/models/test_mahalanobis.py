"""The distance of Mahalanobis: what torch and the ONNX graph answer is what SciPy computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis as distance
from sklearn.covariance import OAS

from beatline import models
from beatline.common.errors import UserError
from beatline.export import onnx_graph, session
from beatline.metrics import roc_auc
from beatline.models import Examples, mahalanobis
from beatline.models.mahalanobis import Architecture, Network, Train
from beatline.prediction import inference
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import TASKS
from beatline.prediction.windows import Windows
from tests.models import detectors

TASK = TASKS["neighbours"]


def examples(signals: np.ndarray, targets: np.ndarray) -> Examples:
    recordings = Recordings(
        signals.astype(np.float32), np.arange(len(signals)), torch.device("cpu")
    )
    return Examples(recordings, targets.astype(np.int8))


def fitted(signals: np.ndarray, sections: np.ndarray, **windows: object) -> tuple[Network, float]:
    """A network that has learned from `signals` `[N, T, C]`, and the mean score that its history has."""
    train = examples(signals, sections)
    parameters = Train.model_validate({"threshold_percentile": 95, "seed": 1, "windows": windows})
    shape = (parameters.windows.length or signals.shape[1], signals.shape[2])
    kind = models.module("mahalanobis")
    network = models.create(kind, Architecture(), shape, sections.shape[1], "x")
    assert isinstance(network, Network)
    history, best = mahalanobis.fit(
        network, TASK, train, examples(signals, sections[:, :1] * 0), parameters
    )
    assert best == len(history) == 1
    assert history.loc[0, "train_loss"] == history.loc[0, "validation_loss"]
    return network, float(history.loc[0, "train_loss"])


def scores(network: Network, signals: np.ndarray, **windows: object) -> np.ndarray:
    recordings = examples(signals, np.zeros((len(signals), 1))).recordings
    return inference.predict(network, TASK, recordings, Windows.model_validate(windows))[:, 0]


def made(seed: int, records: int, features: int, sections: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated rows `[N, 1, F]` around a mean per section, and which section each is of."""
    rng = np.random.default_rng(seed)
    number = np.arange(records) % sections
    mixed = rng.standard_normal((records, features)) @ rng.standard_normal((features, features))
    rows = mixed + 3 * rng.standard_normal((sections, features))[number]
    return rows.astype(np.float32)[:, None], np.eye(sections)[number]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    records=st.integers(10, 60),
    features=st.integers(1, 15),
    sections=st.integers(1, 4),
)
def test_equals_scipy(seed: int, records: int, features: int, sections: int) -> None:
    """The nearest of the sections' means, by the shrunk covariance of all deviations from them, also
    where there are fewer rows than features. Of directions that hardly vary the variance has a floor,
    which scipy does not know."""
    signals, section = made(seed, records, features, sections)
    network, mean_score = fitted(signals, section)
    rows = signals[:, 0].astype(np.float64)
    means = np.stack([rows[column > 0].mean(axis=0) for column in section.T])
    shrunk = OAS(assume_centered=True).fit(rows - means[section.argmax(axis=1)]).covariance_
    assume(np.linalg.eigvalsh(shrunk).min() > 2 * mahalanobis.LEAST_VARIANCE)
    precision = np.linalg.inv(shrunk)
    asked = np.concatenate([rows, 5 * np.random.default_rng(seed).standard_normal((5, features))])
    expected = [min(distance(row, mean, precision) for mean in means) ** 2 for row in asked]
    expected = np.array(expected) / features
    found = scores(network, asked[:, None])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert mean_score == pytest.approx(expected[:records].mean(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("sections", [1, 4])
def test_the_graph_answers_the_same(sections: int) -> None:
    """ONNX Runtime, to 1e-5, of any number of rows, near and far."""
    signals, section = made(3, 60, 13, sections)
    network, _ = fitted(signals, section)
    graph = session.open_session(onnx_graph.export(network, TASK, (1, 13)))
    asked = np.concatenate([signals, 100 * signals, 1e6 * signals])
    answers = np.asarray(graph.run([session.ANSWERS], {session.WINDOWS: asked})[0])
    np.testing.assert_allclose(answers[:, 0], scores(network, asked), rtol=1e-5)


def test_a_normal_row_is_near_1_and_sections_are_not_mixed() -> None:
    """Between two machines is not normal for either, though it is for what a single mean would say."""
    signals, section = made(1, 400, 8, 2)
    network, mean_score = fitted(signals, section)
    assert 0.7 < mean_score < 1.1
    middle = np.stack([signals[section[:, side] == 1].mean(axis=0) for side in (0, 1)]).mean(axis=0)
    single, _ = fitted(signals, np.ones((400, 1)))
    assert scores(network, middle[None])[0] > 1 and scores(single, middle[None])[0] < 0.1


def test_windows_are_flattened_and_averaged() -> None:
    """Of recordings over time each window is a row; scores are their mean. Toys' anomalies are found."""
    sections, windows = np.repeat(np.eye(2), 24, axis=0), {"length": 4, "stride": 4}
    learned = detectors.toys(2, 24, seed=2)
    network, _ = fitted(learned, sections, **windows)
    normal, anomalous = (
        detectors.toys(2, 20, seed=3 + kind, anomalous=bool(kind)) for kind in range(2)
    )
    cut = normal.reshape(40 * 6, 4, 16)
    found = scores(network, normal, **windows)
    np.testing.assert_allclose(found, scores(network, cut).reshape(40, 6).mean(axis=1), rtol=1e-5)
    values = np.concatenate([found, scores(network, anomalous, **windows)])
    assert roc_auc(np.repeat([0, 1], 40)[:, None], values[:, None])[0] > 0.95


def test_little_to_learn_from() -> None:
    """Rows that are all alike, a feature that never varies, a section without a normal
    row: finite scores, least for what was seen."""
    rng = np.random.default_rng(0)
    constant = rng.standard_normal((30, 1, 3)) * [1, 0, 1]
    for signals in (np.ones((5, 1, 3)), constant):
        section = np.zeros((len(signals), 3))
        section[:, 1] = 1
        network, mean_score = fitted(signals, section)
        far = scores(network, signals + 3)
        assert np.isfinite(far).all() and (far > 10 * max(mean_score, 0.1)).all()
        assert torch.isfinite(network.means).all()


def test_same_bytes_again() -> None:
    """Equal data give equal weights."""
    first, second = (fitted(*made(5, 70, 6, 2))[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_too_many_values_for_a_covariance() -> None:
    """Refused in a sentence with the cure, before gigabytes are asked for."""
    kind = models.module("mahalanobis")
    with pytest.raises(UserError, match=r"60,000.*windows\.length"):
        models.create(kind, Architecture(), (5000, 12), 1, "params.yaml: train.x")
