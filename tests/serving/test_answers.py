"""Answers of the server: those of the bundle in torch, with errors and explanations where they belong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beatline import bundle
from beatline.bundle import model_info
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.formats.recording import Recording
from beatline.preprocessing import normalization
from beatline.serving import answers, explanation, model, preparation
from beatline.serving.model import Model
from beatline.serving.problems import Problem
from beatline.serving.recording import Prepared
from beatline.serving.settings import Serve
from tests.bundle.bundles import (
    CHANNELS,
    DATASET,
    HISTORY,
    LENGTH,
    familiarity,
    made,
    raw_recordings,
)
from tests.parameters import ARCHITECTURES, content

LIMITS = Serve.model_validate(content()["serve"])
CASES = [
    ("cnn", "multilabel"),
    ("lstm", "multiclass"),
    ("cnn_lstm", "binary"),
    ("mlp", "multiclass"),
    ("s4", "multilabel"),
    ("boosted_trees", "multilabel"),
    ("rocket", "multiclass"),
    ("autoencoder", "reconstruction"),
    ("embedding", "neighbours"),
    ("mahalanobis", "neighbours"),
]


def saved(folder: Path, name: str = "cnn", task: str = "multilabel", **changes: Any) -> Path:
    dataset = DATASET | changes.pop("dataset", {})
    network, description = made(name, task, dataset=dataset, parameters=7, **changes)
    place = folder / "data/models/ptbxl" / name
    bundle.save(place, network, description, HISTORY)
    return place


def answered(loaded: Model, recording: np.ndarray, **flags: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"explain": False, "with_recording": False, **flags}
    asked = Recording(recording, sampling_rate=loaded.model_info["dataset"]["sampling_rate"])
    found = answers.respond(loaded, asked, limits=LIMITS, **options)
    return json.loads(json.dumps(found, allow_nan=False))  # as a client reads it


def values(answer: dict[str, Any]) -> list[float]:
    return [answer["score"]] if "score" in answer else list(answer["probabilities"].values())


@pytest.mark.parametrize(("name", "task"), CASES)
def test_answers_are_those_of_the_bundle(tmp_path: Path, name: str, task: str) -> None:
    """Windows, normalization, aggregation and decisions by the server are the pipeline's, whatever the
    model and the task, for invalid samples and recordings longer than those of the training too."""
    folder = saved(tmp_path, name, task)
    loaded, in_torch = model.load(folder), bundle.load(folder)
    for recordings in (raw_recordings(), np.tile(raw_recordings(2), (1, 3, 1))):
        expected = in_torch.predict(recordings)
        for number, recording in enumerate(recordings):
            answer = answered(loaded, recording)
            np.testing.assert_allclose(
                values(answer), expected.values[number], rtol=1e-5, atol=1e-5
            )
            decided = expected.decisions[number].astype(bool).tolist()
            if task == "multiclass":
                assert answer["class"] == loaded.classes[answer["predicted_class"]]
                assert [name == answer["class"] for name in loaded.classes] == decided
                assert answer["probability"] == max(values(answer))
            elif "score" in answer:
                assert [answer["anomaly"]] == decided
            else:
                assert list(answer["decisions"].values()) == decided
                assert answer["thresholds"] == dict.fromkeys(loaded.classes, pytest.approx(1 / 3))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_explanations_are_what_occlusion_gives(tmp_path: Path, name: str, task: str) -> None:
    """The importance of a part is the answer less that without the part, asked of the whole recording
    in torch; that only some windows are looked at again does not show."""
    folder = saved(tmp_path, name, task)
    loaded, in_torch = model.load(folder), bundle.load(folder)
    recording = np.tile(raw_recordings(1)[0], (3, 1))
    found = answered(loaded, recording, explain=True)["explanation"]
    signal = loaded.normalization.apply(recording)
    steps = explanation.parts(len(signal), explanation.PARTS)
    assert found["unit"] == "s"
    assert found["start"] == [begin / 100 for begin, _ in steps]
    assert found["end"] == [end / 100 for _, end in steps]
    assert found["channels"] == [[channel] for channel in CHANNELS]
    whole = in_torch.answer(signal[None]).values[0]
    importance = np.array(list(found["importance"].values()))
    assert importance.shape == (len(whole), len(steps), len(CHANNELS))
    for number in (0, len(steps) // 2, len(steps) - 1):
        for channel in range(len(CHANNELS)):
            without = signal.copy()
            without[slice(*steps[number]), channel] = 0
            expected = whole - in_torch.answer(without[None]).values[0]
            np.testing.assert_allclose(
                importance[:, number, channel], expected, rtol=1e-4, atol=2e-5
            )


class Stopped(Exception):
    pass


class Counting:
    """A session that counts its runs, and the windows in them."""

    def __init__(self, session: Any) -> None:
        self.session, self.runs, self.windows = session, 0, 0

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> Any:
        self.runs += 1
        self.windows += len(inputs["windows"])
        return self.session.run(names, inputs)


@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize("batch", [128, 2])
def test_what_an_answer_takes_is_known_before(
    tmp_path: Path, name: str, task: str, batch: int
) -> None:
    """The runs and the windows that are counted are those that are run, with an explanation and without,
    for recordings of any length."""
    loaded = model.load(saved(tmp_path, name, task))
    for samples in [10, 23, 24, 57, 200]:
        for explain in (False, True):
            session: Any = Counting(loaded.session)
            needs = dataclasses.replace(loaded.needs, batch=batch)
            counted = dataclasses.replace(loaded, session=session, needs=needs)
            recording = np.random.default_rng(samples).normal(size=(samples, 3)).astype(np.float32)
            answered(counted, recording, explain=explain)
            expected = explanation.effort(counted, samples, explain=explain)
            assert (session.runs, session.windows) == expected
            assert explanation.seconds(counted, samples, explain=explain) > 0


def test_an_answer_can_be_stopped(tmp_path: Path) -> None:
    """Between any two runs of the graph, of an answer and of its explanation."""
    loaded = model.load(saved(tmp_path))
    signal = loaded.normalization.apply(raw_recordings()[0])
    outputs = loaded.outputs(signal)
    for allowed in (0, 1, 7):
        session: Any = Counting(loaded.session)
        counted = dataclasses.replace(loaded, session=session)

        def check(session: Any = session, allowed: int = allowed) -> None:
            if session.runs == allowed:
                raise Stopped

        with pytest.raises(Stopped):
            explanation.explain(counted, signal, outputs, len(signal), check)
        assert session.runs == allowed
    with pytest.raises(Stopped):
        loaded.outputs(signal, raise_stopped)


def raise_stopped() -> None:
    raise Stopped


def test_an_autoencoders_error_lies_where_it_was_put(tmp_path: Path) -> None:
    """In time and channel: a burst that no network of ours could reconstruct."""
    loaded = model.load(saved(tmp_path, "autoencoder", "reconstruction"))
    recording = np.tile(raw_recordings(2)[1], (3, 1))
    recording[31:34, 2] += 50
    answer = answered(loaded, recording, with_recording=True)
    error = answer["error"]
    assert error["unit"] == "s" and error["measures"] == "error"
    highest = error["highest"]
    assert 0.31 <= highest["start"] < highest["end"] <= 0.34
    assert highest["channels"][0] == CHANNELS[2]
    over_time = np.array(error["over_time"]["value"])
    assert over_time.argmax() == error["over_time"]["start"].index(highest["start"])
    assert max(error["over_channels"], key=error["over_channels"].get) == CHANNELS[2]
    # The error of a step and channel is that of what is drawn, in units of the training's deviation.
    drawn = answer["recording"]
    gap = np.array(drawn["samples"], float) - np.array(drawn["reconstruction"], float)
    squared = (gap / loaded.normalization.standard_deviation) ** 2
    np.testing.assert_allclose(squared.mean(axis=1), over_time, rtol=1e-2, atol=1e-3)


NEAREST = {"name": "autoencoder", "parameters": ARCHITECTURES["autoencoder"] | {"score": "nearest"}}


@pytest.mark.parametrize(
    ("name", "task", "changes"),
    [
        ("embedding", "neighbours", {}),
        ("autoencoder", "reconstruction", {"architecture": NEAREST}),
    ],
)
def test_a_distance_is_told_by_window(
    tmp_path: Path, name: str, task: str, changes: dict[str, Any]
) -> None:
    """There is no reconstruction to tell more by, or none whose error would be the score: the windows'
    scores, whose mean is the recording's."""
    loaded = model.load(saved(tmp_path, name, task, **changes))
    answer = answered(loaded, raw_recordings(1)[0], with_recording=True)
    over_time = answer["error"]["over_time"]
    assert answer["error"]["measures"] == "distance" == model.summary(loaded, tmp_path)["measures"]
    assert answer["error"]["over_channels"] is None
    assert answer["recording"]["reconstruction"] is None
    assert over_time["start"] == [0, 0.05, 0.1, 0.13] and over_time["end"][-1] == LENGTH / 100
    assert np.mean(over_time["value"]) == pytest.approx(answer["score"], rel=1e-5)
    whole = bundle.load(tmp_path / f"data/models/ptbxl/{name}").predict(raw_recordings(1))
    assert answer["score"] == pytest.approx(float(whole.values[0, 0]), rel=1e-5)


@pytest.mark.parametrize(("name", "task"), CASES[-2:])
def test_nothing_is_told_of_what_was_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, task: str
) -> None:
    """A short sound is repeated to the length of the training's: an error or a part of the explanation
    beyond its end would be of no recording."""
    loaded = model.load(saved(tmp_path, name, task))
    repeated = Prepared(raw_recordings(1)[0], [], length=12)
    monkeypatch.setattr(preparation, "prepare", lambda *_, **__: repeated)
    answer = answered(loaded, raw_recordings(1)[0][:12], explain=True, with_recording=True)
    over_time = answer["error"]["over_time"]
    assert max(over_time["end"]) == max(answer["explanation"]["end"]) == 0.12
    assert len(over_time["value"]) == len(over_time["start"]) > 1
    assert len(answer["recording"]["samples"]) == 12 and not answer["recording"]["cut"]
    whole = bundle.load(tmp_path / f"data/models/ptbxl/{name}").predict(raw_recordings(1))
    assert answer["score"] == pytest.approx(float(whole.values[0, 0]), rel=1e-5)


def test_the_recording_comes_back_as_the_model_saw_it(tmp_path: Path) -> None:
    """In the data set's unit, order and rate, an invalid sample as null; of a very long one the first
    part, and it says so."""
    loaded = model.load(saved(tmp_path))
    recording = raw_recordings(1)[0]
    sent = Recording(recording[:, [2, 0, 1]] * 1000, ["V1", "I", "II"], 100, ["uV"] * 3)
    found = answers.respond(loaded, sent, explain=False, with_recording=True, limits=LIMITS)
    drawn = found["recording"]
    assert drawn["channels"] == CHANNELS and drawn["sampling_rate"] == 100
    assert drawn["samples"][3][1] is None and not drawn["cut"]
    back = np.array(drawn["samples"], dtype=float)
    np.testing.assert_allclose(back, recording, rtol=1e-6, atol=1e-5)
    long = answered(loaded, np.zeros((70_000, 3)) + recording[0], with_recording=True)["recording"]
    assert long["cut"] and len(long["samples"]) * 3 <= answers.SHOWN


def test_small_samples_come_back_too(tmp_path: Path) -> None:
    """A recording in tesla is no line of zeros: rounding is a share of what the channel deviates by."""
    unit = 1e-13
    recording = raw_recordings(1)[0].astype(np.float64) * unit
    fitted = made("autoencoder", "reconstruction")[1]["normalization"]
    for key in ("mean", "standard_deviation", "fill"):
        fitted[key] = [value * unit for value in fitted[key]]
    loaded = model.load(saved(tmp_path, "autoencoder", "reconstruction", normalization=fitted))
    drawn = answered(loaded, recording, with_recording=True)["recording"]
    gap = (np.array(drawn["samples"], dtype=float) - recording) / fitted["standard_deviation"]
    assert np.nanmax(np.abs(gap)) < 1e-4
    assert np.std(np.array(drawn["reconstruction"], dtype=float), axis=0).min() > 0


def test_recordings_far_from_the_training_are_warned_of(tmp_path: Path) -> None:
    """Ten times the voltage is answered, and the answer said to mean little."""
    loaded = model.load(saved(tmp_path, dataset={"typical": {"rms": [0.5, 1.5]}}))
    recording = raw_recordings(2)[1]
    assert [w["code"] for w in answered(loaded, recording)["warnings"]] == []
    far = recording + 10 * (recording - recording.mean(axis=0))
    assert [w["code"] for w in answered(loaded, far)["warnings"]] == ["far"]


@pytest.mark.parametrize(("name", "task"), [("cnn", "multilabel"), ("embedding", "neighbours")])
def test_recordings_of_another_kind_are_warned_of(tmp_path: Path, name: str, task: str) -> None:
    """Beyond the threshold of the distance to the training recordings, with both numbers, and only
    there; a bundle of an older version warns of no distance. The list of models says which do."""
    network, description = made(name, task)
    recording = raw_recordings(2)[1]
    normalized = normalization.Normalization(**description["normalization"]).apply(recording)
    distance = familiarity(description).distance(normalized, description["dataset"])
    for threshold, codes in ((0.99 * distance, ["unfamiliar"]), (1.01 * distance, []), (None, [])):
        known = familiarity(description, threshold) if threshold else None
        bundle.save(tmp_path / "m", network, description, HISTORY, known)
        loaded = model.load(tmp_path / "m")
        warnings = answered(loaded, recording)["warnings"]
        assert [warning["code"] for warning in warnings] == codes
        for number in (distance, threshold) if warnings else ():
            assert f"{number:.3g}" in warnings[0]["message"]
        far_from = model.summary(loaded, tmp_path / "none")["far_from"]
        assert far_from == (pytest.approx(threshold) if threshold else None)


def test_a_distance_of_two_bundles_is_refused(tmp_path: Path) -> None:
    """The service reads a folder while it is replaced: never the distance of another model."""
    network, description = made()
    for number in (1, 2):
        known = familiarity(description, number)
        bundle.save(tmp_path / str(number), network, description, HISTORY, known)
    shutil.copy(tmp_path / "1" / bundle.FAMILIARITY, tmp_path / "2" / bundle.FAMILIARITY)
    sums.seal(tmp_path / "2")
    with pytest.raises(UserError, match=r"familiarity\.safetensors .*another SHA-256"):
        model.load(tmp_path / "2")


def test_cautions_come_before_notes(tmp_path: Path) -> None:
    """Who reads one line of a table or of a log reads what may make the answer wrong."""
    loaded = model.load(saved(tmp_path, dataset={"typical": {"rms": [0.5, 1.5]}}))
    samples = raw_recordings(2)[1]
    far = samples + 10 * (samples - samples.mean(axis=0))
    sent = Recording(far * 1000, sampling_rate=100, units=["uV"] * samples.shape[1])
    answer = answers.respond(loaded, sent, explain=False, with_recording=False, limits=LIMITS)
    warnings = answer["warnings"]
    assert [(w["grade"], w["code"]) for w in warnings] == [
        ("caution", "far"),
        ("note", "converted"),
    ]


TABLE = {"length": 1, "drawing": "features", "sampling_rate": None}
WHOLE = {"length": 0, "stride": 1, "aggregate": "mean"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return saved(tmp_path, "mlp", "multiclass", dataset=TABLE, windows=WHOLE)


def test_rows_are_answered_by_name_and_in_order(table: Path) -> None:
    """An object in any order, a list, and several of either: the same answers, those of the bundle."""
    loaded = model.load(table)
    rows = raw_recordings()[1:, 0].astype(float)
    expected = bundle.load(table).predict(rows[:, None]).values
    by_name = [dict(zip(CHANNELS, row.tolist(), strict=True)) for row in rows]
    backwards = [dict(reversed(row.items())) for row in by_name]
    for asked in (rows.tolist(), by_name, backwards):
        found = answers.respond_rows(loaded, asked, LIMITS)
        assert isinstance(found, list) and len(found) == len(rows)
        alone = answers.respond_rows(loaded, asked[0], LIMITS)
        assert isinstance(alone, dict) and alone["class"] == found[0]["class"]
        assert alone["probability"] == pytest.approx(found[0]["probability"])
        for answer, of_row in zip(found, expected, strict=True):
            assert answer["predicted_class"] == of_row.argmax()
            assert answer["class"] == loaded.classes[answer["predicted_class"]]
            assert answer["probability"] == pytest.approx(of_row.max(), rel=1e-5)
            assert isinstance(answer["predicted_class"], int)


def test_a_binary_table_model_decides_by_its_threshold(tmp_path: Path) -> None:
    """Class 1 from the threshold on, not from a half; the probability is that of the class."""
    folder = saved(
        tmp_path, "mlp", "binary", dataset=TABLE, windows=WHOLE, classes=["sick"], thresholds=[0.0]
    )
    loaded = model.load(folder)
    (value,) = bundle.load(folder).predict(raw_recordings()[1:2, :1]).values[0]
    answer = answers.respond_rows(loaded, raw_recordings()[1, 0].tolist(), LIMITS)
    assert isinstance(answer, dict)
    assert (answer["predicted_class"], answer["class"]) == (1, "sick")
    assert answer["probability"] == pytest.approx(value, rel=1e-5)


def test_rows_far_from_the_training_are_warned_of(tmp_path: Path) -> None:
    """Row by row."""
    folder = saved(tmp_path, "mlp", "multiclass", dataset=TABLE, windows=WHOLE)
    known = familiarity(model_info.read_model_info(folder), 3.0)
    rows = raw_recordings()[1:3, 0].astype(float)
    loaded = dataclasses.replace(model.load(folder), familiarity=known)
    mean, deviation = (
        np.array(loaded.model_info["normalization"][key]) for key in ("mean", "standard_deviation")
    )
    rows = mean + deviation * [[0.5, 0.5, 0.5], [3, -3, 3]]
    found = answers.respond_rows(loaded, rows.tolist(), LIMITS)
    assert isinstance(found, list)
    codes = [[warning["code"] for warning in answer["warnings"]] for answer in found]
    assert codes == [[], ["unfamiliar"]]


def test_missing_values_are_filled_as_in_training(table: Path) -> None:
    """null is what NaN is in a recording: the training's value stands in, which is said by name."""
    loaded = model.load(table)
    row = raw_recordings()[1, 0].astype(float)
    row[1] = np.nan
    expected = bundle.load(table).predict(row[None, None]).values[0]
    answer = answers.respond_rows(loaded, [row[0], None, row[2]], LIMITS)
    assert isinstance(answer, dict)
    assert answer["probability"] == pytest.approx(expected.max(), rel=1e-5)
    (warning,) = answer["warnings"]
    assert warning["code"] == "missing" and "II" in warning["message"]


@pytest.mark.parametrize(
    ("rows", "status", "expected"),
    [
        ({"I": 1, "II": 2}, 422, "the body lacks V1"),
        ({"I": 1, "II": 2, "V1": 3, "V11": 4}, 422, "unknown feature 'V11' .did you mean V1"),
        ([1, 2], 422, "the body has 2 values instead of the 3 features"),
        ([1, 2, "3"], 422, "the body: V1 is no number"),
        ([1, 2, True], 422, "the body: V1 is no number"),
        ([1, 2, 1e300], 422, "the body: V1 is no number between"),
        ([[1, 2, 3], [1, 2]], 422, "row 2 has 2 values"),
        ([[1, 2, 3], 4], 422, "row 2 is neither an object"),
        ([], 422, "the body has 0 values"),
        ([None] * 3, 422, "the body has no value at all"),
        ([[1, 2, 3], dict.fromkeys(CHANNELS)], 422, "row 2 has no value at all"),
        ("I", 422, "the body is neither"),
        (None, 422, "the body is neither"),
        ([[1, 2, 3]] * 21, 413, "21 rows are more than the 20"),
    ],
)
def test_rows_that_do_not_fit(table: Path, rows: object, status: int, expected: str) -> None:
    """One sentence that names the row and the feature."""
    with pytest.raises(Problem, match=expected) as raised:
        answers.respond_rows(model.load(table), rows, LIMITS)
    assert raised.value.status == status


def test_only_a_classifier_of_rows_answers_rows(tmp_path: Path) -> None:
    """serve.features may name a model of recordings by mistake: whose it is, is said."""
    with pytest.raises(Problem, match=r"ptbxl/cnn is no classifier of rows: serve\.features"):
        answers.respond_rows(model.load(saved(tmp_path)), [1, 2, 3], LIMITS)


def test_damaged_bundles_are_refused(tmp_path: Path) -> None:
    """Another graph than that of model.json (as in the middle of a `dvc checkout`), none, or none that
    could be made: the file and the cure, and no half-loaded model."""
    folder, other = saved(tmp_path / "a"), saved(tmp_path / "b", best_epoch=2, thresholds=[0.5] * 3)
    graph = folder / model_info.GRAPH
    whole = graph.read_bytes()
    for damaged in (whole[:-7], b"", whole.replace(b"answers", b"answerz")):
        graph.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.onnx is not the one of model\.json"):
            model.load(folder)
    graph.unlink()
    with pytest.raises(UserError, match=r"model\.onnx is missing: .*beatline repair"):
        model.load(folder)
    shutil.copy(other / model_info.GRAPH, graph)  # equal weights: the same graph
    assert model.load(folder).classes == ["NORM", "MI", "CD"]
    description = json.loads((folder / model_info.DESCRIPTION).read_text())
    description[model_info.GRAPH_SHA256] = None
    (folder / model_info.DESCRIPTION).write_text(json.dumps(description))
    sums.seal(folder)
    with pytest.raises(UserError, match=r"has no model\.onnx: its network could not be exported"):
        model.load(folder)


def test_a_summary_tells_the_metrics_of_these_weights_only(tmp_path: Path) -> None:
    """Between a training and its evaluation the metrics there are belong to another model."""
    loaded = model.load(saved(tmp_path))
    estimates = tmp_path / "evaluated/estimates.json"
    estimates.parent.mkdir()
    found = {"auc": {"value": 0.9, "low": 0.8, "high": 0.95}}
    for weights, expected in ((loaded.identity["weights"], found), ("0" * 64, None)):
        estimates.write_text(json.dumps({"overall": found, "identity": {"model": weights}}))
        sums.seal(estimates.parent)
        told = model.summary(loaded, estimates)
        assert told["metrics"] == expected
    assert told["input"]["shape"] == [LENGTH, 3] and told["input"]["shortest"] == 10
    assert told["thresholds"] == dict.fromkeys(["NORM", "MI", "CD"], pytest.approx(1 / 3))
    own = {"overall": found, "identity": {"model": loaded.identity["weights"]}}
    estimates.write_text(json.dumps(own))
    assert model.summary(loaded, estimates)["metrics"] is None  # not what evaluate has written
    estimates.write_text("{")
    sums.seal(estimates.parent)
    assert model.summary(loaded, estimates)["metrics"] is None
