"""Tasks: losses, answers and decisions equal those of torch and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch.nn import functional

from beatline.prediction import losses, tasks
from beatline.prediction.tasks import TASKS

RNG = np.random.default_rng(0)
LOGITS = torch.from_numpy(RNG.standard_normal((40, 3)).astype(np.float32) * 2)
INPUTS = torch.from_numpy(RNG.standard_normal((40, 7, 2)).astype(np.float32))
CHOSEN = RNG.integers(0, 3, 40)
EXCLUSIVE = torch.from_numpy(np.eye(3, dtype=np.float32)[CHOSEN])
SEVERAL = torch.from_numpy((RNG.random((40, 3)) < 0.4).astype(np.float32))


DATASET_TASKS = ("multilabel", "multiclass", "binary", "anomaly")


@pytest.mark.parametrize("dataset_task", DATASET_TASKS)
def test_what_a_model_learns_decides_its_task(dataset_task: str) -> None:
    """Detectors have one task on every data set; labels are the data set's, if there are any to learn."""
    of_normal, of_sections = (
        tasks.for_dataset("normal", dataset_task),
        tasks.for_dataset("sections", dataset_task),
    )
    assert of_normal is TASKS["reconstruction"] and of_sections is TASKS["neighbours"]
    of_labels = tasks.for_dataset("labels", dataset_task)
    assert (of_labels and of_labels.name) == (None if dataset_task == "anomaly" else dataset_task)


def test_tasks_know_their_names() -> None:
    """A bundle finds its task again by name; detectors alone learn from normal records alone, and
    need no column of labels."""
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    detectors = {name for name, task in TASKS.items() if task.learns_normal_only}
    assert detectors == {"reconstruction", "neighbours"}
    for name, task in TASKS.items():
        assert task.labels(["a", "b"]) == ([] if name in detectors else ["a", "b"])


@pytest.mark.parametrize("name", ["multilabel", "binary"])
def test_binary_cross_entropy(name: str) -> None:
    """Binary cross-entropy with logits, and from the answers the same number by scikit-learn."""
    task = TASKS[name]
    loss = losses.for_task(task).loss(LOGITS, INPUTS, SEVERAL, None)
    answers = losses.for_task(task).predict(LOGITS, INPUTS)
    assert torch.equal(answers, torch.sigmoid(LOGITS))
    by_class = [log_loss(SEVERAL[:, k], answers[:, k].double()) for k in range(3)]
    assert float(loss) == pytest.approx(np.mean(by_class), rel=1e-5)
    assert task.prediction_loss(answers.numpy(), SEVERAL.numpy()) == pytest.approx(
        float(loss), rel=1e-5
    )


def test_cross_entropy() -> None:
    """Cross-entropy of exclusive classes, by torch's class indices and by scikit-learn."""
    task = TASKS["multiclass"]
    loss = losses.for_task(task).loss(LOGITS, INPUTS, EXCLUSIVE, None)
    assert float(loss) == pytest.approx(
        float(functional.cross_entropy(LOGITS, torch.from_numpy(CHOSEN))), rel=1e-6
    )
    answers = losses.for_task(task).predict(LOGITS, INPUTS)
    assert float(loss) == pytest.approx(
        log_loss(CHOSEN, torch.softmax(LOGITS.double(), dim=1)), rel=1e-5
    )
    assert task.prediction_loss(answers.numpy(), EXCLUSIVE.numpy()) == pytest.approx(
        float(loss), rel=1e-5
    )


def test_reconstruction_error() -> None:
    """Mean squared error to learn; per record it is the anomaly score; validated on normals only."""
    task = TASKS["reconstruction"]
    outputs = INPUTS * 0.9 + 0.1
    loss = losses.for_task(task).loss(outputs, INPUTS, torch.zeros(40, 1), None)
    scores = losses.for_task(task).predict(outputs, INPUTS)
    expected = ((outputs - INPUTS).numpy() ** 2).reshape(40, -1).mean(axis=1)
    np.testing.assert_allclose(scores[:, 0].numpy(), expected, rtol=1e-5)
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
    targets = np.array([[0]] * 30 + [[1]] * 10)
    assert task.prediction_loss(scores.numpy(), targets) == pytest.approx(
        expected[:30].mean(), rel=1e-5
    )


def test_loss_of_versions_is_a_plain_loop() -> None:
    """Version v of a window of section s is class s * V + v, told one window and version at a time."""
    windows, versions, sections = 6, 3, 4
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((windows, versions, sections * versions)) * 2
    section = rng.integers(0, sections, windows)
    expected = []
    for b in range(windows):
        for v in range(versions):
            chances = np.exp(logits[b, v]) / np.exp(logits[b, v]).sum()
            expected.append(-np.log(chances[section[b] * versions + v]))
    found = losses.for_task(TASKS["neighbours"]).loss(
        torch.from_numpy(logits),
        torch.zeros(windows, 7, 2),
        torch.from_numpy(np.eye(sections)[section]),
        None,
    )
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-12)


def test_loss_of_one_version_is_cross_entropy_of_sections() -> None:
    """Without versions the network tells sections apart, as a classifier would."""
    expected = functional.cross_entropy(LOGITS, torch.from_numpy(CHOSEN))
    found = losses.for_task(TASKS["neighbours"]).loss(LOGITS[:, None], INPUTS, EXCLUSIVE, None)
    torch.testing.assert_close(found, expected)


def test_answer_of_neighbours_is_what_the_network_says() -> None:
    """The network itself measures how far a window is from what it knows."""
    scores = torch.rand(40, 1)
    task = TASKS["neighbours"]
    assert torch.equal(losses.for_task(task).predict(scores, INPUTS), scores)
    targets = np.array([[0]] * 30 + [[1]] * 10)
    assert task.prediction_loss(scores.numpy(), targets) == pytest.approx(float(scores[:30].mean()))


@pytest.mark.parametrize("name", ["multilabel", "multiclass"])
def test_certainty_has_a_finite_loss(name: str) -> None:
    """A probability of exactly 0 or 1 does not make the validation loss infinite."""
    answers = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    assert 10 < TASKS[name].prediction_loss(answers, 1 - answers.astype(int)) < 20
    assert TASKS[name].prediction_loss(answers, answers.astype(int)) == pytest.approx(0, abs=1e-6)


def test_weights_of_labels() -> None:
    """Multilabel: a positive weighs as many times more as there are more negatives."""
    targets = SEVERAL.numpy()
    weights = TASKS["multilabel"].class_weights(targets)
    positives = targets.sum(axis=0)
    np.testing.assert_allclose(weights * positives, 40 - positives)
    assert np.isfinite(TASKS["multilabel"].class_weights(np.zeros((5, 2)))).all()
    chosen = torch.from_numpy(weights.astype(np.float32))
    found = losses.for_task(TASKS["multilabel"]).loss(LOGITS, INPUTS, SEVERAL, chosen)
    chances = torch.sigmoid(LOGITS).double().numpy()
    of_positives = targets * -np.log(chances) * weights
    of_negatives = (1 - targets) * -np.log(1 - chances)
    assert float(found) == pytest.approx((of_positives + of_negatives).mean(), rel=1e-5)


def test_weights_of_exclusive_classes() -> None:
    """Multiclass: scikit-learn's `balanced`, N / (K * count)."""
    from sklearn.utils.class_weight import compute_class_weight

    weights = TASKS["multiclass"].class_weights(EXCLUSIVE.numpy())
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CHOSEN)
    np.testing.assert_allclose(weights, expected)


def test_decisions_at_thresholds() -> None:
    """Yes/no at or above each class's threshold; of exclusive classes the most probable."""
    answers = np.array([[0.2, 0.5], [0.6, 0.4]])
    assert TASKS["multilabel"].decide(answers, [0.6, 0.5]).tolist() == [[0, 1], [1, 0]]
    assert TASKS["multiclass"].decide(answers, []).tolist() == [[0, 1], [1, 0]]
    assert TASKS["reconstruction"].decide(np.array([[1.0], [3.0]]), [3.0]).tolist() == [[0], [1]]


def test_thresholds_are_best_on_validation() -> None:
    """Multilabel: no other threshold has a larger F1 there; exclusive classes need none."""
    targets, answers = SEVERAL.numpy().astype(int), torch.sigmoid(LOGITS + 2 * SEVERAL).numpy()
    chosen = TASKS["multilabel"].thresholds(targets, answers, 95)
    for k, threshold in enumerate(chosen):
        best = max(f1_score(targets[:, k], answers[:, k] >= other) for other in answers[:, k])
        assert f1_score(targets[:, k], answers[:, k] >= threshold) == pytest.approx(best)
    assert TASKS["multiclass"].thresholds(targets, answers, 95) == []


@pytest.mark.parametrize("name", ["reconstruction", "neighbours"])
def test_threshold_of_an_anomaly_is_a_percentile_of_normals(name: str) -> None:
    """The anomalies of validation have no say in the detector's threshold."""
    answers = np.arange(101, dtype=float)[:, None]
    targets = (answers > 99).astype(int)
    (threshold,) = TASKS[name].thresholds(targets, answers, 95)
    assert threshold == pytest.approx(np.percentile(np.arange(100), 95))
    decided = TASKS[name].decide(answers, [threshold])
    assert accuracy_score(targets[:, 0], decided[:, 0]) == pytest.approx(96 / 101)


@pytest.mark.parametrize("score", [0.0, 0.3, 7.0])
def test_normals_that_all_have_the_threshold_s_score_are_normal(score: float) -> None:
    """As of silence that the detector has learned: what is no worse than all of them is no anomaly."""
    answers, targets = np.full((40, 1), score, np.float32), np.zeros((40, 1), int)
    thresholds = TASKS["neighbours"].thresholds(targets, answers, 95)
    assert not TASKS["neighbours"].decide(answers, thresholds).any()
    assert TASKS["neighbours"].decide(answers + np.float32(1e-6), thresholds).all()


def test_towards_what_labels_are_smoothed() -> None:
    """One who knows nothing says one half to each label, one K-th to each exclusive class."""
    assert TASKS["multilabel"].uninformed(5) == TASKS["binary"].uninformed(1) == 0.5
    assert TASKS["multiclass"].uninformed(5) == 0.2
