"""The report: what the data are, how good each model is, where it errs, and what made it.

:func:`compose` collects text, figures and curve tables; the same Markdown is `report.md`, whose
figures are files beside it, and :func:`page`, one HTML file that needs nothing else to be read.
Nothing in it depends on when or where it was written.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pydantic import Field
from ruamel.yaml import YAML

from beatline import arrays, bundle, curves, figures, inference, params
from beatline.curves import Evaluated
from beatline.errors import warn
from beatline.files import read_json
from beatline.normalization import Normalization
from beatline.params import Parameters

SPLITS = ("train", "validation", "test")
FIGURES = "figures"  # beside report.md
IDENTITY_DIGITS = 12  # of a SHA-256: enough to tell two apart
METRICS = {  # in the estimates: in the report
    "auc": "AUC",
    "pauc": "pAUC",
    "average_precision": "average precision",
    "f1": "F1",
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
COMPARED = ("auc", "average_precision", "f1", "accuracy")
TASKS = {
    "multilabel": "several classes may hold at once",
    "multiclass": "exactly one class holds",
    "binary": "one class, yes or no",
    "anomaly": "learns normal records only; the score is the reconstruction error",
}


class Report(Parameters):
    """The block `report`. `mistakes`: so many of each model's most confident mistakes are drawn."""

    mistakes: int = Field(ge=0, le=20)


@dataclass
class Document:
    """`markdown`; `figures`: PNG bytes by path relative to report.md; `curves`: tables by kind and
    data set."""

    blocks: list[str] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)
    curves: dict[str, dict[str, pd.DataFrame]] = field(
        default_factory=lambda: {kind: {} for kind in curves.KINDS}
    )

    @property
    def markdown(self) -> str:
        return "\n\n".join(self.blocks) + "\n"

    def add(self, *paragraphs: str) -> None:
        self.blocks += paragraphs

    def add_table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1
    ) -> None:
        """A table whose first columns, as many as `words`, hold words and the others numbers."""
        aligned = ["---"] * words + ["---:"] * (len(header) - words)
        lines = [header, aligned, *rows]
        self.add("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def add_figure(self, name: str, figure: figures.Figure, alt: str, sentence: str) -> None:
        path = f"{FIGURES}/{name}.png"
        self.figures[path] = figures.png(figure)
        self.add(f"![{alt}]({path})", sentence)

    def add_yaml(self, content: Any) -> None:
        self.add(f"```yaml\n{_yaml(content)}```")


@dataclass(frozen=True)
class DatasetResults:
    """A data set, by its `name` in params.yaml, its `description` (dataset.json), its splits, the
    content of its split metrics, and its models in the order of params.yaml."""

    name: str
    description: dict[str, Any]
    splits: dict[str, arrays.SplitArrays]
    split_metrics: dict[str, Any]
    models: list[Evaluated]

    @property
    def classes(self) -> list[str]:
        return self.description["classes"]

    @property
    def reality(self) -> str:
        return "simulated" if self.description["simulated"] else "real"

    def recordings(self, split: str, rows: Sequence[int]) -> np.ndarray:
        """Recordings `[N, T, C]` of a split, in their unit."""
        normalization = Normalization(**self.description["normalization"])
        return normalization.undo(self.splits[split].signals[list(rows)])


def compose(content: dict[str, Any], parameters: Report, root: Path) -> Document:
    """The report of all that `content` (params.yaml) lists, from the stages' outputs under `root`.

    Models that lie there without being listed are named in a warning and left out. Raises UserError
    if an output is missing.
    """
    _warn_of_stale(content, root)
    found = [_read(content, name, root) for name in content["datasets"]]
    colours = figures.colours_of(list(content["train"]))
    percent = f"{100 * content['evaluate']['confidence']:g} %"
    document = Document()
    _opening(document, found, percent)
    for results in found:
        tables = curves.tables(results.models)
        for kind, table in tables.items():
            document.curves[kind][results.name] = table
        document.add(f"## {_text(results.name)}")
        _data(document, results)
        if results.models:
            _comparison(document, results, tables, colours, content, percent)
        for model in results.models:
            _model(document, results, model, tables, colours[model.model], percent)
            if parameters.mistakes:
                _mistakes(document, results, model, colours[model.model], parameters.mistakes, root)
            document.add(f"Parameters, `train.{model.model}.{results.name}`:")
            document.add_yaml(content["train"][model.model][results.name])
    _closing(document, found, content)
    return document


# ---------------------------------------------------------------- reading


def _read(content: dict[str, Any], name: str, root: Path) -> DatasetResults:
    folder = root / "data/normalized" / name
    return DatasetResults(
        name=name,
        description=read_json(folder / "dataset.json"),
        splits={split: arrays.load_split(folder / split) for split in SPLITS},
        split_metrics=read_json(root / f"reports/metrics/{name}/split.json"),
        models=[
            curves.load(
                model,
                root / f"data/models/{name}/{model}",
                root / f"data/predictions/{name}/{model}",
            )
            for model in params.models_of(content, name)
        ],
    )


def _warn_of_stale(content: dict[str, Any], root: Path) -> None:
    for folder in sorted((root / "data/models").glob("*/*")):
        if folder.name not in params.models_of(content, folder.parent.name):
            place = folder.relative_to(root).as_posix()
            warn(f"{place} is not listed in params.yaml and is left out: remove it")


# ---------------------------------------------------------------- sections


def _opening(document: Document, found: Sequence[DatasetResults], percent: str) -> None:
    kinds = [f"{_text(results.name)} ({results.reality} data)" for results in found]
    document.add(f"# Report: {', '.join(kinds)}")
    if simulated := [results for results in found if results.description["simulated"]]:
        names = " and ".join(f"**{_text(results.name)}**" for results in simulated)
        document.add(
            f"The recordings of {names} come from a simulator. Scores on them show that the "
            f"pipeline works and how models compare there; they say nothing about patients."
        )
    document.add(
        f"Every number below is measured on test records that neither training nor the choice of a "
        f"threshold has seen. Brackets hold {percent} bootstrap intervals, resampled by patient "
        f"(or machine) where there is more than one record of each."
    )
    rows = [
        [
            _link(results.name),
            _link(_section(results, model), model.model),
            *(_estimate(model.estimates["overall"].get(metric)) for metric in COMPARED),
            f"{len(model.predictions):,}",
        ]
        for results in found
        for model in results.models
    ]
    if rows:
        names = [METRICS[metric] for metric in COMPARED]
        document.add_table(["data set", "model", *names, "test records"], rows, words=2)
        document.add(
            "With several classes, every metric is the mean over classes (macro average). Models "
            "that detect anomalies tell normal from abnormal records, so that their numbers do not "
            "compare with those of models that name the classes."
        )


def _data(document: Document, results: DatasetResults) -> None:
    about = results.description
    rate = about["sampling_rate"]
    facts = {
        "What": f"{_text(about['title'])} ({results.reality} data, source `{about['source']}`)",
        "From": _text(about["citation"]),
        "Recordings": f"{about['length']:,} samples{f' at {rate:g} Hz' if rate else ''}, "
        f"{_counted(len(about['channels']), 'channel')} ({_text(', '.join(about['channels']))}), "
        f"unit {_text(about['unit'])}",
        "Task": f"{about['task']}: {TASKS[about['task']]}",
    }
    document.add(
        f"### {_text(results.name)}: data",
        "\n".join(f"- **{name}:** {value}" for name, value in facts.items()),
    )
    counts = about["counts"]
    document.add_table(
        ["found and skipped", "number"],
        [[_text(name.replace("_", " ")), f"{number:,}"] for name, number in counts.items()],
    )
    _splits(document, results)
    _normalization(document, results)
    _examples(document, results)


def _splits(document: Document, results: DatasetResults) -> None:
    tables = {split: results.splits[split].table for split in SPLITS}
    rows = [
        [_text(name), *(f"{np.count_nonzero(table[name]):,}" for table in tables.values())]
        for name in results.classes
    ]
    without = [int((table[results.classes].sum(axis=1) == 0).sum()) for table in tables.values()]
    if any(without):
        rows.append(["none of these", *(f"{number:,}" for number in without)])
    rows.append(["records", *(f"{len(table):,}" for table in tables.values())])
    groups = [table["group"].nunique() for table in tables.values()]
    rows.append(["patients or other groups", *(f"{number:,}" for number in groups)])
    document.add_table(["class", *SPLITS], rows)
    shared = results.split_metrics["shared_patients"]
    document.add(
        f"Patients (or other groups) with records in more than one split: **{shared:,}**."
        + (" Scores are flattered by as much as their records are alike." if shared else "")
    )


def _normalization(document: Document, results: DatasetResults) -> None:
    about = results.description
    values = about["normalization"]
    constant = [_text(about["channels"][number]) for number in values["constant_channels"]]
    document.add(
        "Each channel is normalized by the mean and standard deviation of the training records. "
        f"Constant channels: {', '.join(constant) or 'none'}. Invalid samples, set to the mean: "
        f"{about['counts'].get('invalid_samples', 0):,}."
    )
    document.add_table(
        ["channel", "mean", "standard deviation"],
        [
            [_text(name), _signed(mean), f"{deviation:#.3g}"]
            for name, mean, deviation in zip(
                about["channels"], values["mean"], values["standard_deviation"], strict=True
            )
        ],
    )


def _examples(document: Document, results: DatasetResults) -> None:
    """One training record of each class: the first that has no other class, if there is one."""
    table = results.splits["train"].table
    totals = table[results.classes].sum(axis=1)
    chosen = {}
    for name in results.classes:
        having = table[name] == 1
        rows = np.flatnonzero(having & (totals == 1))
        if not len(rows):
            rows = np.flatnonzero(having)
        chosen |= {name: int(rows[0])} if len(rows) else {}
    if (plain := np.flatnonzero((totals == 0) & (table["normal"] == 1))).size:
        chosen = {"normal": int(plain[0]), **chosen}
    drawing = figures.drawing_of(results.description)
    kind = results.reality
    for number, (name, row) in enumerate(chosen.items(), 1):
        record = str(table["record"].iloc[row])
        title = f"{name}   {_short(record)}{'   simulated' if kind == 'simulated' else ''}"
        drawn = drawing.sheet(results.recordings("train", [row])[0], results.description, title)
        document.add_figure(
            f"{results.name}/example_{number}_{_slug(name)}",
            drawn,
            f"{_text(results.name)}: {kind} training record {_text(_short(record))}, {_text(name)}",
            f"A {kind} recording labelled {_text(name)} ({_text(record)}), the first of the training "
            f"split{' with this label alone' if name != 'normal' else ''}. " + drawing.how_to_read,
        )


def _comparison(
    document: Document,
    results: DatasetResults,
    tables: Mapping[str, pd.DataFrame],
    colours: Mapping[str, str],
    content: dict[str, Any],
    percent: str,
) -> None:
    models = {model.model: colours[model.model] for model in results.models}
    document.add(f"### {_text(results.name)}: comparison of models")
    header = ["", *(_link(_section(results, model), model.model) for model in results.models)]
    rows = [
        [label, *(_estimate(model.estimates["overall"].get(metric)) for model in results.models)]
        for metric, label in METRICS.items()
        if any(metric in model.estimates["overall"] for model in results.models)
    ]
    rows += _facts(results.models)
    document.add_table(header, rows)
    if any("pauc" in model.estimates["overall"] for model in results.models):
        document.add(
            f"pAUC is the standardised area under the ROC curve up to a false positive rate of "
            f"{content['evaluate']['max_fpr']:g}: 0.5 is chance, 1 is perfect."
        )
    if any("ece" in model.estimates["overall"] for model in results.models):
        document.add(
            "The expected calibration error is read with care: drawing records again makes bins "
            "noisier, so that its bootstrap interval lies somewhat too high."
        )
    estimates, groups = _rows_of_comparison(results.models)
    document.add_figure(
        f"{results.name}/comparison",
        figures.comparison(estimates, groups, models, "AUC on test records"),
        f"{_text(results.name)}: AUC of each model with intervals",
        f"AUC of each model on the test records, over all classes and for each: the dot is the "
        f"value, the line its {percent} interval. All models are measured on the same records, so "
        f"intervals that overlap do not show that two models are equally good.",
    )
    document.add_figure(
        f"{results.name}/curves",
        figures.panels(("roc", "precision_recall"), tables, models),
        f"{_text(results.name)}: ROC and precision-recall curves of all models",
        "ROC curves (a better model comes closer to the upper left corner; the dotted diagonal is "
        "chance) and precision-recall curves (closer to the upper right corner; the dotted line is "
        "the precision of guessing) of all models on the test records.",
    )


def _facts(models: Sequence[Evaluated]) -> list[list[str]]:
    about = [model.description for model in models]
    return [
        ["task", *(item["task"] for item in about)],
        ["parameters", *(f"{item['parameters']:,}" for item in about)],
        ["best epoch", *(_best_epoch(model) for model in models)],
    ]


def _best_epoch(model: Evaluated) -> str:
    return f"{model.description['best_epoch']} of {len(model.history)}"


def _rows_of_comparison(
    models: Sequence[Evaluated],
) -> tuple[list[tuple[str, str, float, float, float]], list[str]]:
    """AUC over all classes, then of each class that has one: group, model, value, low, high."""
    rows = []
    for model in models:
        groups = {"all": model.estimates["overall"], **model.estimates["classes"]}
        for name, of_group in groups.items():
            if "auc" not in of_group or of_group["auc"]["value"] is None:
                continue
            auc = of_group["auc"]
            label = name
            if name == "all":
                label = "macro average" if len(groups) > 1 else ", ".join(model.classes)
            rows.append((label, model.model, auc["value"], auc["low"], auc["high"]))
    return rows, list(dict.fromkeys(row[0] for row in rows))


def _model(
    document: Document,
    results: DatasetResults,
    model: Evaluated,
    tables: Mapping[str, pd.DataFrame],
    colour: str,
    percent: str,
) -> None:
    name, about = model.model, model.description
    overall = model.estimates["overall"]
    document.add(
        f"### {_section(results, model)}",
        f"AUC {_estimate(overall.get('auc'))} on {len(model.predictions):,} test records; "
        f"{about['parameters']:,} parameters; epoch {_best_epoch(model)} kept, by the validation "
        f"{'AUC' if about['training']['monitor'] == 'auc' else about['training']['monitor']}. "
        f"Task: {TASKS[about['task']]}.",
    )
    stem, alt = f"{results.name}/{name}", f"{_text(results.name)}, {_text(name)}"
    document.add_figure(
        f"{stem}_history",
        figures.history(tables, name, about["best_epoch"], colour),
        f"{alt}: loss, AUC and learning rate per epoch",
        "Training: loss of train (dashed) and validation records (solid), AUC of validation records "
        "and learning rate at each epoch. The dotted line marks the epoch that was kept. A "
        "validation loss that rises while the train loss falls means overfitting.",
    )
    kinds = [kind for kind in _CURVES if name in set(tables.get(kind, _NONE)["model"])]
    document.add_figure(
        f"{stem}_curves",
        figures.panels(kinds, tables, {name: colour}),
        f"{alt}: {', '.join(kinds).replace('_', '-')} curves",
        "On the test records: " + "; ".join(_CURVES[kind] for kind in kinds) + ".",
    )
    _decisions(document, stem, alt, model, tables, colour)
    _thresholds(document, model, percent)


def _decisions(
    document: Document,
    stem: str,
    alt: str,
    model: Evaluated,
    tables: Mapping[str, pd.DataFrame],
    colour: str,
) -> None:
    """Confusion matrices and score histograms: one figure, or two if the classes are exclusive."""
    kinds, sentence = ("confusion", "scores"), f"{_CONFUSION}; {_SCORES}"
    if model.exclusive:
        table = tables["confusion"]
        document.add_figure(
            f"{stem}_confusion",
            figures.confusion_matrix(table.loc[table["model"] == model.model, :]),
            f"{alt}: confusion matrix",
            f"On the test records: {_CONFUSION}.",
        )
        kinds, sentence = ("scores",), _SCORES
    document.add_figure(
        f"{stem}_decisions",
        figures.panels(kinds, tables, {model.model: colour}),
        f"{alt}: {' matrices and '.join(kinds).replace('scores', 'score histograms')}",
        f"On the test records: {sentence}. The less the two overlap, the better."
        + (_THRESHOLD if model.thresholds else "")
        + (_TAIL if model.task.learns_normal_only else ""),
    )


_CONFUSION = (
    "confusion matrices (rows are the labels, columns what was decided, shades the share of a row; "
    "a perfect model has counts on the falling diagonal only)"
)
_SCORES = (
    "scores of records with the class (filled) and without it (outlined), each as a share of its "
    "records"
)
_NONE = pd.DataFrame({"model": []})
_CURVES = {
    "roc": "ROC curves (dotted: chance)",
    "precision_recall": "precision-recall curves (dotted: guessing)",
    "calibration": "calibration, the observed frequency of the class among records with about the "
    "same predicted probability (larger dots stand for more records; dotted: perfect; below it the "
    "model is too sure of the class)",
}
_THRESHOLD = " The dotted line is the threshold; what lies to its right is decided positive."
_TAIL = " The last bar also holds all scores beyond it."


def _thresholds(document: Document, model: Evaluated, percent: str) -> None:
    """The table of classes, or the counts of a model that has only one."""
    thresholds = model.thresholds or [None] * len(model.classes)
    how = {
        "multiclass": "The most probable class is decided, so that there are no thresholds.",
        "anomaly": "The threshold is the "
        f"{model.description['training']['threshold_percentile']:g}th percentile of the scores of "
        "normal validation records.",
    }.get(
        model.description["task"],
        "Thresholds are those with the largest F1 on the validation records.",
    )
    of_class = model.estimates["classes"] or {model.classes[0]: model.estimates["overall"]}
    shown = [metric for metric in METRICS if any(metric in row for row in of_class.values())]
    targets = dict(zip(model.classes, model.targets.sum(axis=0), strict=True))
    limits = dict(zip(model.classes, thresholds, strict=True))
    document.add(f"{how} Test records, with {percent} intervals:")
    document.add_table(
        ["class", "positives", "threshold", *(METRICS[metric] for metric in shown)],
        [
            [
                _text(name),
                f"{targets[name]:,}",
                _number(limits[name]),
                *(_estimate(row.get(metric)) for metric in shown),
            ]
            for name, row in of_class.items()
        ],
    )
    if counts := model.estimates["counts"]:
        document.add(
            f"True positives {counts['tp']:,}, false positives {counts['fp']:,}, true negatives "
            f"{counts['tn']:,}, false negatives {counts['fn']:,}."
        )


# ---------------------------------------------------------------- mistakes


@dataclass(frozen=True)
class Wrong:
    """A test record (a row of the predictions) that was decided wrongly. `confidence`: how far beyond
    the threshold, as a share of the way to certainty. `sentence`: what was decided, and why."""

    row: int
    confidence: float
    sentence: str


def most_confident_mistakes(model: Evaluated, number: int) -> list[Wrong]:
    """The `number` worst of a model's mistakes, one per record, the most confident first.

    Confidence is how far a probability lies beyond the threshold, as a share of the way to 0 or 1;
    for exclusive classes how much more probable than the right class the decided one was; for anomaly
    scores the logarithm of score over threshold, without its sign.
    """
    how = _exclusive_mistakes if model.exclusive else _threshold_mistakes
    worst: dict[int, Wrong] = {}
    for wrong in how(model):
        if wrong.row not in worst or wrong.confidence > worst[wrong.row].confidence:
            worst[wrong.row] = wrong
    return sorted(worst.values(), key=lambda wrong: (-wrong.confidence, wrong.row))[:number]


def _exclusive_mistakes(model: Evaluated) -> Iterable[Wrong]:
    actual, decided = model.targets.argmax(axis=1), model.decisions.argmax(axis=1)
    scores = model.scores
    for row in np.flatnonzero(actual != decided):
        right, wrong = actual[row], decided[row]
        yield Wrong(
            int(row),
            float(scores[row, wrong] - scores[row, right]),
            f"{model.classes[wrong]} ({scores[row, wrong]:.3f}) instead of {model.classes[right]} "
            f"({scores[row, right]:.3f})",
        )


def _threshold_mistakes(model: Evaluated) -> Iterable[Wrong]:
    scores, targets, decisions = model.scores, model.targets, model.decisions
    for row, k in np.argwhere(targets != decisions):
        score, threshold = float(scores[row, k]), model.thresholds[k]
        if model.task.learns_normal_only:
            confidence = abs(np.log(max(score, 1e-12) / max(threshold, 1e-12)))
        else:
            room = 1 - threshold if decisions[row, k] else threshold
            confidence = abs(score - threshold) / max(room, 1e-12)
        what = "false alarm" if decisions[row, k] else "missed"
        yield Wrong(
            int(row),
            float(confidence),
            f"{what}: {model.classes[k]}, score {score:.3f}, threshold {threshold:.3f}",
        )


def _mistakes(
    document: Document,
    results: DatasetResults,
    model: Evaluated,
    colour: str,
    number: int,
    root: Path,
) -> None:
    worst = most_confident_mistakes(model, number)
    if not worst:
        document.add("There are no mistakes on the test records.")
        return
    table = results.splits["test"].table
    row_of = {name: row for row, name in enumerate(table["record"].astype(str))}
    records = [str(model.predictions["record"].iloc[wrong.row]) for wrong in worst]
    rows = [row_of[record] for record in records]
    recordings = results.recordings("test", rows)
    titles = [
        f"{_short(record)}, labelled {_labels(table, row, results.classes)}\n{wrong.sentence}"
        for record, row, wrong in zip(records, rows, worst, strict=True)
    ]
    reconstructed = ""
    if model.task.learns_normal_only:
        folder = root / f"data/models/{results.name}/{model.model}"
        items = _reconstructed(results, folder, rows, recordings, titles)
        reconstructed = (
            " The coloured line is the reconstruction; below it stands the squared error (mean over "
            "channels, normalized), whose mean over time and windows is the score."
        )
    else:
        items = [
            figures.Mistake(title, recording)
            for title, recording in zip(titles, recordings, strict=True)
        ]
    document.add_figure(
        f"{results.name}/{model.model}_mistakes",
        figures.mistakes(items, results.description, colour),
        f"{_text(results.name)}, {_text(model.model)}: the most confident mistakes",
        f"The {_counted(len(items), 'most confident mistake')} of {_text(model.model)} on the test "
        f"records, the worst first: each is decided wrongly by the widest margin. A second look at "
        f"them shows whether the model or the label errs.{reconstructed}",
    )


def _labels(table: pd.DataFrame, row: int, classes: Sequence[str]) -> str:
    having = [name for name in classes if table[name].iloc[row] == 1]
    return ", ".join(having) or ("normal" if table["normal"].iloc[row] == 1 else "none")


def _reconstructed(
    results: DatasetResults,
    folder: Path,
    rows: Sequence[int],
    recordings: np.ndarray,
    titles: Sequence[str],
) -> list[figures.Mistake]:
    trained = bundle.load(folder)
    signals = np.ascontiguousarray(results.splits["test"].signals[list(rows)])
    copies = reconstruction(trained, signals)
    errors = ((copies - signals) ** 2).mean(axis=2)
    in_unit = trained.normalization.undo(copies)
    return [
        figures.Mistake(*parts) for parts in zip(titles, recordings, in_unit, errors, strict=True)
    ]


@torch.inference_mode()
def reconstruction(trained: bundle.Bundle, signals: np.ndarray) -> np.ndarray:
    """What an autoencoder makes of normalized recordings `[N, T, C]`: the same shape.

    Window by window, as it is scored; where windows overlap, their mean.
    """
    windows = trained.windows
    length = min(windows.length or signals.shape[1], signals.shape[1])
    total, times = np.zeros(signals.shape), np.zeros((signals.shape[1], 1))
    for start in inference.starts(signals.shape[1], windows):
        inside = slice(start, start + length)
        total[:, inside] += trained.network(torch.from_numpy(signals[:, inside])).numpy()
        times[inside] += 1
    # Between windows that leave gaps nothing was reconstructed.
    return np.divide(total, times, out=np.full(signals.shape, np.nan), where=times > 0)


# ---------------------------------------------------------------- closing


def _closing(document: Document, found: Sequence[DatasetResults], content: dict[str, Any]) -> None:
    document.add("## What made these numbers")
    rows = []
    for results in found:
        for model in results.models:
            identity = model.description["identity"]
            environment = identity["environment"]
            rows.append(
                [
                    _link(_section(results, model), f"{results.name}: {model.model}"),
                    f"`{identity['data'][:IDENTITY_DIGITS]}`",
                    f"`{identity['code'][:IDENTITY_DIGITS]}`",
                    _text(", ".join(f"{k} {v}" for k, v in environment.items() if k != "device")),
                    _text(environment["device"]),
                ]
            )
    if rows:
        document.add_table(["model", "data", "code", "versions", "device"], rows, words=5)
        document.add(
            f"Data and code are the first {IDENTITY_DIGITS} digits of SHA-256 sums: of the recordings "
            f"that the model learned from, and of the project's modules that trained it. The whole "
            f"sums, and every hyperparameter, stand in each model's `model.json`."
        )
    document.add("Parameters of the data sets:")
    document.add_yaml({"datasets": content["datasets"]})
    document.add("Parameters of evaluation and report:")
    document.add_yaml({name: content[name] for name in ("evaluate", "report")})


# ---------------------------------------------------------------- words and numbers


def _estimate(value: Mapping[str, float | None] | None) -> str:
    """`0.927 [0.915, 0.938]`, or a dash where there is none."""
    if value is None or value["value"] is None:
        return _number(None)
    return f"{_number(value['value'])} [{_number(value['low'])}, {_number(value['high'])}]"


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3f}"  # noqa: RUF001


def _signed(value: float) -> str:
    return "0" if abs(value) < 5e-7 else f"{value:#.3g}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _text(value: str) -> str:
    """`value` as Markdown that shows just these characters, also within a table."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(value.split()))


def _short(record: str) -> str:
    return record.rsplit("/", 1)[-1]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _section(results: DatasetResults, model: Evaluated) -> str:
    return f"{_text(results.name)}: {_text(model.model)}"


def _anchor(heading: str) -> str:
    """The fragment that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("\\", "")).replace(" ", "-")


def _link(heading: str, label: str | None = None) -> str:
    return f"[{_text(label) if label is not None else heading}](#{_anchor(heading)})"


def _yaml(content: Any) -> str:
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = None  # innermost mappings and lists on one line
    writer.sort_base_mapping_type_on_output = False  # keep the order of params.yaml
    writer.width = 100
    target = io.StringIO()
    writer.dump(content, target)
    return target.getvalue()


# ---------------------------------------------------------------- the page


STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --line: #d5d9de;
  --soft: #f4f5f7; --link: #0b5fa5; --quiet: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe3e8; --back: #14171a; --line: #383e45;
  --soft: #1e2226; --link: #7db8ee; --quiet: #a0a8b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1.25rem 4rem; color: var(--text);
  background: var(--back); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 1rem; padding-top: .6rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.12rem; margin: 2.4rem 0 .6rem; }
p { margin: .7rem 0; max-width: 48rem; }
a { color: var(--link); }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th { text-align: left; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
th:first-child, td:first-child { padding-left: 0; }
figure { margin: 1.6rem 0 .4rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure + p { color: var(--quiet); font-size: .9rem; margin-top: .2rem; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--soft); border-radius: 4px;
  font-size: .8rem; line-height: 1.45; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print { :root { --text: #000; --back: #fff; --line: #bbb; --soft: #f6f6f6; --quiet: #333;
  --link: #000; } body { font-size: 10pt; max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .table { overflow: visible; } table { font-size: 7.5pt; } th, td { white-space: normal; } }
"""


def page(document: Document) -> str:
    """The report as one HTML file: style and figures are inside, no script, nothing is fetched."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules: dict[str, Callable[..., str]] = {
        "image": lambda *parts: _inlined(document.figures, *parts),
        "table_open": lambda *_: '<div class="table" tabindex="0">\n<table>\n',
        "table_close": lambda *_: "</table>\n</div>\n",
        "heading_open": _with_anchor,
    }
    for name, rule in rules.items():
        markdown.add_render_rule(name, lambda _, *parts, rule=rule: rule(*parts))
    body = re.sub(r"<p>(<figure>.*?</figure>)</p>", r"\1", markdown.render(document.markdown))
    title = html.escape(document.blocks[0].lstrip("# ").replace("\\", ""))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _inlined(
    pictures: Mapping[str, bytes],
    tokens: Sequence[Token],
    number: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[number]
    content = pictures[str(token.attrs["src"])]
    alt = RendererHTML().renderInlineAsText(token.children, options, env)
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></figure>'


def _with_anchor(tokens: Sequence[Token], number: int, *_: Any) -> str:
    return f'<{tokens[number].tag} id="{_anchor(tokens[number + 1].content)}">'
