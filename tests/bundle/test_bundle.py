"""A bundle explains itself: it answers as the network did, from raw recordings, and refuses damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from beatline import bundle, models
from beatline.bundle import model_info
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import read_csv
from beatline.common.params import Parameters
from beatline.export import onnx_graph, session
from beatline.prediction import inference, losses, tasks
from beatline.prediction.device_data import Recordings
from beatline.prediction.windows import Windows
from beatline.preprocessing import normalization
from tests.bundle.bundles import (
    CHANNELS,
    DATASET,
    HISTORY,
    LENGTH,
    WINDOW,
    familiarity,
    made,
    raw_recordings,
    reference,
)
from tests.damage import flipped, places
from tests.parameters import ARCHITECTURES
from tests.paths import ROOT

CASES = [
    ("cnn", "multilabel"),
    ("lstm", "multiclass"),
    ("cnn_lstm", "binary"),
    ("mlp", "multiclass"),
    ("s4", "multilabel"),
    ("logistic_regression", "multilabel"),
    ("boosted_trees", "multilabel"),
    ("rocket", "multiclass"),
    ("autoencoder", "reconstruction"),
    ("embedding", "neighbours"),
    ("mahalanobis", "neighbours"),
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network, description = made()
    bundle.save(tmp_path / "model", network, description, HISTORY)
    return tmp_path / "model"


@pytest.mark.parametrize(("model", "task"), CASES)
def test_loaded_answers_are_those_before_saving(tmp_path: Path, model: str, task: str) -> None:
    """Every model and task, after a round trip through the disk, answers bit for bit the same."""
    network, description = made(model, task)
    signals = normalization.Normalization(**description["normalization"]).apply(raw_recordings())
    windows = Windows(**description["windows"])
    recordings = Recordings(signals, np.arange(len(signals)), torch.device("cpu"))
    expected = inference.predict(network, tasks.TASKS[task], recordings, windows)
    bundle.save(tmp_path / "model", network, description, HISTORY)
    found = bundle.load(tmp_path / "model").answer(signals)
    assert np.array_equal(found.values, expected)
    decided = tasks.TASKS[task].decide(expected, description["thresholds"])
    assert np.array_equal(found.decisions, decided)
    assert found.classes == description["classes"]


@pytest.mark.parametrize(("model", "task"), CASES)
def test_raw_and_normalized_recordings_have_the_same_answer(
    tmp_path: Path, model: str, task: str
) -> None:
    """predict(raw) is answer(normalized), bit for bit: the normalization comes back as it was."""
    network, description = made(model, task)
    normalized = normalization.Normalization(**description["normalization"]).apply(raw_recordings())
    bundle.save(tmp_path / "model", network, description, HISTORY)
    loaded = bundle.load(tmp_path / "model")
    predicted, answered = loaded.predict(raw_recordings()), loaded.answer(normalized)
    assert np.array_equal(predicted.values, answered.values)
    assert np.array_equal(predicted.decisions, answered.decisions)


def test_answers_are_what_they_say(saved: Path) -> None:
    """Probabilities `[N, K]` in [0, 1], and decisions 0/1 at the thresholds."""
    found = bundle.load(saved).predict(raw_recordings())
    assert found.values.shape == found.decisions.shape == (9, 3)
    assert (found.values >= 0).all() and (found.values <= 1).all()
    assert np.array_equal(found.decisions, found.values >= 1 / 3)


def test_one_recording_alone(saved: Path) -> None:
    """The answer to a recording does not depend on the others that are asked about."""
    model = bundle.load(str(saved))
    alone = np.concatenate([model.predict(one[None]).values for one in raw_recordings()])
    np.testing.assert_allclose(alone, model.predict(raw_recordings()).values, rtol=1e-5)


def test_longer_recordings_and_lists(saved: Path) -> None:
    """Windows run over recordings of any greater length; nested lists will do."""
    model = bundle.load(saved)
    assert model.predict(np.zeros((2, 500, 3), dtype=np.float32)).values.shape == (2, 3)
    values = raw_recordings(2).tolist()
    np.testing.assert_allclose(
        model.predict(values).values,  # pyright: ignore[reportArgumentType]
        model.predict(raw_recordings(2)).values,
        rtol=1e-4,
    )


def test_one_recording_without_a_batch(saved: Path) -> None:
    """`[T, C]` is one recording, and gives one row: that of `[1, T, C]`, bit for bit."""
    model, recording = bundle.load(saved), raw_recordings()[0]
    alone, batch = model.predict(recording), model.predict(recording[None])
    assert alone.values.shape == alone.decisions.shape == (1, 3)
    assert np.array_equal(alone.values, batch.values)
    assert np.array_equal(alone.decisions, batch.decisions)


def test_recordings_of_different_lengths(saved: Path) -> None:
    """A list has a row for each, in its order: arrays, or lists of numbers."""
    model, longest = bundle.load(saved), np.tile(raw_recordings(1)[0], (3, 1))
    recordings = [longest[:20], longest, longest[:20], longest[:11]]
    expected = np.concatenate([model.predict(one[None]).values for one in recordings])
    for given in (
        recordings,
        tuple(recordings),
        [np.nan_to_num(one).tolist() for one in recordings[2:]],
    ):
        answers = model.predict(given)
        assert answers.values.shape == answers.decisions.shape == (len(given), 3)
    np.testing.assert_allclose(model.predict(recordings).values, expected, rtol=1e-5)


def test_rows_of_a_table(tmp_path: Path) -> None:
    """Where a recording is one row of features, `[N, C]` are N recordings, and not one of N steps."""
    dataset = {**DATASET, "length": 1}
    network, description = made(
        "mlp", "multiclass", dataset=dataset, windows={**WINDOW, "length": 0}
    )
    bundle.save(tmp_path / "model", network, description, HISTORY)
    model, rows = bundle.load(tmp_path / "model"), np.nan_to_num(raw_recordings()[0])
    expected = model.predict(rows[:, None])
    assert expected.values.shape == (LENGTH, 3)
    assert np.array_equal(model.predict(rows).values, expected.values)
    assert model.predict(rows[3]).values.shape == (1, 3)


@pytest.mark.parametrize(
    "wrong", ["a.hea", Path("a.hea"), ["a.hea", np.zeros((23, 3))], [None], {}]
)
def test_what_is_no_array(saved: Path, wrong: Any) -> None:
    """A path is not read here: the message names what reads it."""
    with pytest.raises(UserError, match=r"beatline\.serving\.predictor"):
        bundle.load(saved).predict(wrong)


@pytest.mark.parametrize(
    ("window", "length", "expected"),
    [(10, LENGTH, 10), (0, LENGTH, LENGTH), (LENGTH, LENGTH, LENGTH), (1000, LENGTH, LENGTH)],
)
def test_what_a_network_looks_at(window: int, length: int, expected: int) -> None:
    """Windows where they are shorter than the recordings, which are looked at whole otherwise."""
    description = {
        "dataset": {"length": length, "channels": CHANNELS},
        "windows": {**WINDOW, "length": window},
    }
    assert bundle.shape_of(description) == (expected, 3)


@pytest.mark.parametrize("model", ["mlp", "logistic_regression"])
def test_windows_of_a_network_of_one_shape(tmp_path: Path, model: str) -> None:
    """A network that takes windows of one length only is built for the windows, and answers longer
    recordings window by window."""
    network, description = made(model)
    bundle.save(tmp_path / "model", network, description, HISTORY)
    loaded = bundle.load(tmp_path / "model")
    for length in (10, LENGTH, 500):
        found = loaded.predict(np.zeros((2, length, 3), dtype=np.float32))
        assert found.values.shape == (2, 3)


@pytest.mark.parametrize("window", [0, 1000])
@pytest.mark.parametrize("model", sorted(ARCHITECTURES))
def test_recordings_longer_than_those_it_learned_from(
    tmp_path: Path, model: str, window: int
) -> None:
    """A network that looks at whole recordings answers longer ones, or they are refused in a sentence;
    there is no third way."""
    detector = {"normal": "reconstruction", "sections": "neighbours"}
    task = detector.get(models.module(model).LEARNS, "multilabel")
    network, description = made(model, task, windows={**WINDOW, "length": window})
    bundle.save(tmp_path / "model", network, description, HISTORY)
    loaded = bundle.load(tmp_path / "model")
    for length in (LENGTH + 1, 2 * LENGTH):
        try:
            found = loaded.predict(np.zeros((2, length, 3), dtype=np.float32))
        except UserError as error:
            assert "do not fit" in str(error)
        else:
            assert found.values.shape == (2, len(description["classes"]))


def test_sections_are_what_a_network_tells_apart(tmp_path: Path) -> None:
    """It has an output per section that it learned to know, and still one answer: the anomaly score."""
    sections = [f"id_{number:02d}" for number in range(4)]
    labels, _ = made("mlp")
    network, description = made("mlp", sections=sections)
    out = [list(one.state_dict().values())[-1].shape for one in (labels, network)]
    assert out == [(3,), (4,)]
    bundle.save(tmp_path / "model", network, description, HISTORY)
    assert bundle.load(tmp_path / "model").description["sections"] == sections


class Nearest(nn.Module, models.WithMemoryBank):
    """Scores a window by its distance to the nearest in its memory bank."""

    def __init__(self, _: object, shape: models.Shape, __: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.known: torch.Tensor
        self.register_buffer("known", torch.zeros(8, *shape))

    def build_memory_bank(self, windows: Iterable[torch.Tensor]) -> None:
        self.known.copy_(torch.cat(list(windows))[:8])

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        gaps = (windows[:, None] - self.known[None]).square().mean(dim=(2, 3))
        return self.scale * gaps.amin(dim=1, keepdim=True)


def test_what_is_remembered_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with a memory bank predicts from a bundle as before, bit for bit, and a window of the
    bank is at distance 0."""
    nearest = SimpleNamespace(Architecture=Parameters, Network=Nearest, LEARNS="sections")
    found = models.module
    monkeypatch.setattr(models, "module", lambda name: nearest if name == "x" else found(name))
    monkeypatch.setitem(ARCHITECTURES, "x", {})
    network, description = made("x", "neighbours")
    signals = normalization.Normalization(**description["normalization"]).apply(raw_recordings())
    recordings = Recordings(signals, np.arange(len(signals)), torch.device("cpu"))
    windows = Windows(**description["windows"])
    assert isinstance(network, Nearest)
    with torch.inference_mode():
        network.build_memory_bank(inference.batches(recordings, windows))
    expected = inference.predict(network, tasks.TASKS["neighbours"], recordings, windows)
    bundle.save(tmp_path / "model", network, description, HISTORY)
    answers = bundle.load(tmp_path / "model").predict(raw_recordings())
    assert answers.classes == ["anomaly"]
    assert np.array_equal(answers.values, expected)
    assert (expected[:2] == 0).all() and (expected[2:] > 0).all()


@pytest.mark.parametrize(
    "shape",
    [(9, LENGTH, 2), (LENGTH,), (3, LENGTH), (1, 3, LENGTH), (0, LENGTH, 3), (1, 0, 3), (1, 9, 3)],
)
def test_wrong_shapes_are_refused(saved: Path, shape: tuple[int, ...]) -> None:
    """Other leads, no axis of leads, axes in another order, nothing at all, or too short."""
    with pytest.raises(
        UserError, match=r"of shape \[.*\] do not fit: .*10 and the 3 channels I, II, V1"
    ):
        bundle.load(saved).predict(np.zeros(shape, dtype=np.float32))


def test_same_bytes_twice(tmp_path: Path) -> None:
    """Equal models are equal files: no time, no random name."""
    network, description = made()
    for name in "ab":
        bundle.save(tmp_path / name, network, description, HISTORY)
    for file in (bundle.WEIGHTS, bundle.DESCRIPTION, bundle.HISTORY, bundle.GRAPH):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_weights_are_safetensors(saved: Path) -> None:
    """Any tool reads the weights; nothing in a bundle is a pickle."""
    network, _ = made()
    weights = load_file(saved / bundle.WEIGHTS)
    assert weights.keys() == network.state_dict().keys()
    assert sorted(path.name for path in saved.iterdir()) == [
        "SHA256SUMS",
        "history.csv",
        "model.json",
        "model.onnx",
        "weights.safetensors",
    ]


def test_distance_to_the_training_comes_back(tmp_path: Path) -> None:
    """Bit for bit, and no bundle needs it: those of older versions have none and say nothing of it."""
    network, description = made()
    known = familiarity(description)
    for name, given in (("with", known), ("without", None)):
        bundle.save(tmp_path / name, network, description, HISTORY, given)
    loaded = bundle.load(tmp_path / "with").familiarity
    assert loaded and loaded.to_bytes() == known.to_bytes()
    assert bundle.load(tmp_path / "without").familiarity is None
    path = tmp_path / "without" / bundle.DESCRIPTION
    content = json.loads(path.read_text())
    del content["familiarity_sha256"]
    path.write_text(json.dumps(content))
    sums.seal(tmp_path / "without")
    assert bundle.load(tmp_path / "without").familiarity is None


def test_damaged_distance_to_the_training_is_noticed(tmp_path: Path) -> None:
    """Wherever a bit flips, or if the file is of another model, or lost."""
    network, description = made()
    bundle.save(tmp_path, network, description, HISTORY, familiarity(description))
    path = tmp_path / bundle.FAMILIARITY
    for place in places(path, 20):
        with (
            flipped(path, place),
            pytest.raises(UserError, match=r"familiarity\.safetensors .*beatline repair"),
        ):
            bundle.load(tmp_path)
    path.write_bytes(familiarity(description, threshold=2).to_bytes())
    sums.seal(tmp_path)
    with pytest.raises(UserError, match=r"familiarity\.safetensors .*train the model again"):
        bundle.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"familiarity\.safetensors .*beatline repair"):
        bundle.load(tmp_path)


def test_what_a_model_is_watched_by_comes_back(tmp_path: Path) -> None:
    """Bit for bit; damage is told when it is read; a bundle of an older version, which has none, works
    and says what makes it watchable."""
    network, description = made()
    kept, (watched, older) = reference(description), (tmp_path / "watched", tmp_path / "older")
    bundle.save(watched, network, description, HISTORY, reference=kept)
    bundle.save(older, network, description, HISTORY)
    loaded = bundle.load(watched).description
    assert model_info.read_reference(watched, loaded).to_bytes() == kept.to_bytes()
    path = watched / bundle.REFERENCE
    for place in places(path, 20):
        with (
            flipped(path, place),
            pytest.raises(UserError, match=r"reference\.safetensors .*beatline repair"),
        ):
            model_info.read_reference(watched, loaded)
    with pytest.raises(UserError, match=r"older .*train it again"):
        model_info.read_reference(older, bundle.load(older).description)


def test_changed_weights_are_noticed(saved: Path) -> None:
    """A bit that flips in a cache leaves a file that loads, of another model: the sum tells."""
    weights = saved / bundle.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged .*beatline repair"):
        bundle.load(saved)


@pytest.mark.parametrize("name", [bundle.DESCRIPTION, bundle.WEIGHTS, sums.SUMS])
def test_any_flipped_byte_is_noticed(saved: Path, name: str) -> None:
    """A threshold of 0.8 instead of 0.3, another mean or class: a model that answers, wrongly."""
    for place in places(saved / name, 24):
        with flipped(saved / name, place), pytest.raises(UserError, match=f"{name} is damaged"):
            bundle.load(saved)
    bundle.load(saved)


def test_weights_of_another_model_are_noticed(saved: Path) -> None:
    """Whoever seals a bundle of files that do not belong together: model.json knows its weights."""
    weights = load_file(saved / bundle.WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, saved / bundle.WEIGHTS)
    sums.seal(saved)
    with pytest.raises(UserError, match=r"weights\.safetensors is not the one of model\.json"):
        bundle.load(saved)


@pytest.mark.parametrize(("model", "task"), CASES)
def test_the_graph_answers_as_the_network(tmp_path: Path, model: str, task: str) -> None:
    """For any number of windows, other than that which it was traced with; an autoencoder's graph gives
    the reconstruction too."""
    network, description = made(model, task)
    bundle.save(tmp_path / "model", network, description, HISTORY)
    saved = (tmp_path / "model" / bundle.GRAPH).read_bytes()
    for number in (1, 2, 7):
        shape = (number, *bundle.shape_of(description))
        windows = torch.randn(shape, generator=torch.Generator().manual_seed(number))
        with torch.inference_mode():
            outputs = network.eval()(windows)
            expected = losses.for_task(tasks.TASKS[task]).predict(outputs, windows)
        run: Any = session.open_session(saved).run
        found = run(None, {session.WINDOWS: windows.numpy()})
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
        assert len(found) == 1 + (task == "reconstruction")
        if task == "reconstruction":
            np.testing.assert_allclose(found[1], outputs, rtol=1e-4, atol=1e-4)


class Unwritten(nn.Module):
    """Depends on the number of windows, which tracing does not see."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.mean(dim=1) * len(windows)


class Unknown(nn.Module):
    """Uses what ONNX has no operator for."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(windows.transpose(1, 2) @ windows)


@pytest.mark.parametrize("network", [Unwritten(), Unknown()])
def test_a_network_without_a_graph_is_saved_and_warned_of(
    network: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of training are not lost because a network cannot be served, or would be with other
    answers."""
    with pytest.raises(onnx_graph.NotExported):
        onnx_graph.export(network, tasks.TASKS["multilabel"], (10, 3))
    _, description = made()
    bundle.save(tmp_path / "model", network, description, HISTORY)
    assert "has no graph and cannot be served" in capsys.readouterr().out
    assert not (tmp_path / "model" / bundle.GRAPH).exists()
    assert model_info.read_model_info(tmp_path / "model")[bundle.GRAPH_SHA256] is None


def test_history(saved: Path) -> None:
    """A row per epoch comes back."""
    pd.testing.assert_frame_equal(read_csv(saved / "history.csv"), HISTORY)


def test_description(saved: Path) -> None:
    """model.json holds what is promised: all that leads from a raw recording to an answer, and the
    identity of data and code."""
    description = json.loads((saved / bundle.DESCRIPTION).read_text())
    assert {"format", *model_info.PROMISED} <= description.keys()
    _, expected = made()
    assert {key: description[key] for key in expected} == expected  # floats to the last digit
    assert bundle.load(saved).description == description


@pytest.mark.parametrize("key", model_info.PROMISED)
def test_missing_key_is_named(saved: Path, key: str) -> None:
    """A description without one of them is refused by name."""
    change(saved, lambda description: description.pop(key))
    with pytest.raises(UserError, match=rf"model\.json has no {key}: train the model again"):
        bundle.load(saved)


def change(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    description = json.loads((folder / bundle.DESCRIPTION).read_text())
    how(description)
    (folder / bundle.DESCRIPTION).write_text(json.dumps(description))
    sums.seal(folder)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda d: d.update(format=1), "is a bundle of another format than 3"),
        (lambda d: d.pop("format"), "is a bundle of another format than 3"),
        (lambda d: d["architecture"].update(name="gru"), "there is no architecture 'gru'"),
        (
            lambda d: d["architecture"]["parameters"].update(depth=3),
            r"model\.json: architecture\.parameters\.depth: unknown parameter",
        ),
        (
            lambda d: d["architecture"]["parameters"].update(filters=[4, 6]),
            r"weights\.safetensors does not fit model\.json",
        ),
        (
            lambda d: [d["classes"].append("HYP"), d["thresholds"].append(0.5)],
            r"weights\.safetensors does not fit model\.json",
        ),
        (
            lambda d: d["classes"].append("HYP"),
            r"model\.json: thresholds.* 4 .*; train the model again",
        ),
        (lambda d: d.update(sections=["a", "b"]), r"weights\.safetensors does not fit model\.json"),
        (
            lambda d: d["dataset"]["channels"].append("V2"),
            r"model\.json: normalization.* 4 channels; train the model again",
        ),
    ],
)
def test_descriptions_that_do_not_fit(saved: Path, how: Any, expected: str) -> None:
    """A description of another format, architecture or number of classes."""
    change(saved, how)
    with pytest.raises(UserError, match=expected) as error:
        bundle.load(saved)
    assert str(saved) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "NORM"),
        ("classes", ["NORM", "NORM", "CD"]),
        ("task", "regression"),
        ("thresholds", [0.5]),
        ("thresholds", [0.5, float("nan"), 0.5]),
        ("thresholds", [0.5, 0.5, 10**200]),
        ("windows.length", -1),
        ("windows.stride", 0),
        ("normalization.mean", [0.0, 1.0]),
        ("normalization.standard_deviation", [1.0, 0.0, 1.0]),
        ("dataset.channels", []),
        ("dataset.length", 10**9),
        ("dataset.sampling_rate", 0),
        ("dataset.unit", "\ud800"),
        ("dataset.unit", "m" * 20_000),
        ("dataset.drawing", "spectrogram"),
        ("identity.data", {"a": [[[[[[]]]]]]}),
        ("weights_sha256", "0"),
    ],
)
def test_values_that_none_can_have_are_refused_by_name(saved: Path, key: str, value: Any) -> None:
    """Of another type, not finite, of a number that does not go with another: the key, and a cure, in a
    sentence that is short however long the value is."""
    *path, last = key.split(".")

    def how(content: dict[str, Any]) -> None:
        for part in path:
            content = content[part]
        content[last] = value

    change(saved, how)
    block = "normalization" if path == ["normalization"] else key
    block = "dataset.representation" if key == "dataset.drawing" else block
    with pytest.raises(UserError, match=rf"model\.json: {block}.*train the model again") as error:
        bundle.load(saved)
    assert len(str(error.value)) < 800


def test_damaged_and_missing_files(saved: Path) -> None:
    """Weights cut short, no weights, no description, no folder: the file and the cure."""
    weights = saved / bundle.WEIGHTS
    whole = weights.read_bytes()
    for damaged in (whole[:-8], whole[:4], b""):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights\.safetensors is damaged .*beatline repair"):
            bundle.load(saved)
    weights.unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        bundle.load(saved)
    (saved / bundle.DESCRIPTION).write_text("[]")
    sums.seal(saved)
    with pytest.raises(UserError, match="another format"):
        bundle.load(saved)
    with pytest.raises(UserError, match=r"nowhere/model\.json is missing: run `dvc repro`"):
        bundle.load(saved.parent / "nowhere")


WATCHES = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import beatline.export.session
"""


def test_onnx_runtime_reports_to_nobody() -> None:
    """Its builds send figures of their use to their makers unless they are told not to before they are
    imported; afterwards is too late."""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    command = [sys.executable, "-c", WATCHES]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


# ---------------------------------------------------------------- reconstructions


def autoencoder(**windows: Any) -> bundle.Bundle:
    network, description = made("autoencoder", "reconstruction", windows={**WINDOW, **windows})
    return bundle.Bundle(network.eval(), description)


def test_a_reconstruction_is_made_of_the_windows_that_are_scored() -> None:
    """Overlapping windows give their mean; a single one gives what the network makes of it."""
    trained = autoencoder()
    signals = np.random.default_rng(0).normal(size=(2, 15, 3)).astype(np.float32)
    copies, errors = trained.reconstruct(signals)
    with torch.inference_mode():
        first, second = (
            trained.network(torch.from_numpy(signals[:, start : start + 10])).numpy()
            for start in (0, 5)
        )
    np.testing.assert_allclose(copies[:, :5], first[:, :5], atol=1e-6)
    np.testing.assert_allclose(copies[:, 5:10], (first[:, 5:] + second[:, :5]) / 2, atol=1e-6)
    np.testing.assert_allclose(copies[:, 10:], second[:, 5:], atol=1e-6)
    squared = [(first - signals[:, :10]) ** 2, (second - signals[:, 5:]) ** 2]
    np.testing.assert_allclose(errors[:, :5], squared[0][:, :5], rtol=1e-5)
    both = (squared[0][:, 5:] + squared[1][:, :5]) / 2
    np.testing.assert_allclose(errors[:, 5:10], both, rtol=1e-5)


def test_between_windows_nothing_was_reconstructed() -> None:
    copies, errors = autoencoder(stride=15).reconstruct(np.ones((1, 40, 3), np.float32))
    gaps = [*range(10, 15), *range(25, 30)]
    assert np.flatnonzero(np.isnan(copies[0, :, 0])).tolist() == gaps
    assert np.flatnonzero(np.isnan(errors[0, :, 0])).tolist() == gaps
