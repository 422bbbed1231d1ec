"""Drift: whether what a model is asked and answers is still as its validation records were.

Each feature and score by Cramér and von Mises, embeddings by the maximum mean discrepancy, shares of
predicted classes by χ², the share of unfamiliar recordings; one decision from all of them
(:mod:`beatline.monitoring.two_samples`). PSI and Wasserstein's distance are shown as sizes and decide
nothing: in small windows they are large without any drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from beatline.bundle.model_info import WEIGHTS_SHA256, read_familiarity, read_model_info
from beatline.bundle.model_info import read_reference as read_reference_of
from beatline.monitoring import two_samples
from beatline.monitoring.outcomes import Outcome
from beatline.monitoring.settings import LEAST_LEVEL
from beatline.monitoring.settings import Drift as Settings
from beatline.monitoring.window import Window
from beatline.prediction import tasks
from beatline.prediction.familiarity import Familiarity, columns
from beatline.prediction.reference import Reference

PERMUTATIONS = round(1 / LEAST_LEVEL) - 1
MOST_RECORDS = 2000  # of a window that are compared: more would hardly find smaller shifts
AT_A_TIME = 10_000  # records
FEWEST_REFERENCE = 20  # validation records
LEAST_DEVIATION = 0.01  # of features; of scores, of the largest
FEW_ENTITIES = 20  # machines or persons
Verdict = Literal["drift", "none", "too few"]


@dataclass(frozen=True)
class Records:
    """What a model was asked: `embeddings` `[N, D]`, `scores` and 0/1 `decisions` `[N, K]`; codes of
    `warnings`, and `entities` where they are known."""

    embeddings: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    warnings: Sequence[Sequence[str]] = ()
    entities: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, chosen: np.ndarray) -> Records:
        """Return some of the records, without warnings and entities."""
        return Records(self.embeddings[chosen], self.scores[chosen], self.decisions[chosen])


@dataclass(frozen=True)
class Watched:
    """A bundle that can be watched."""

    dataset: str
    model: str
    model_info: dict[str, Any]
    reference: Reference
    familiarity: Familiarity

    @property
    def weights(self) -> str:
        return self.model_info[WEIGHTS_SHA256]

    @property
    def score_names(self) -> list[str]:
        return [f"{name} predicted" for name in self.model_info["classes"]]

    @property
    def records(self) -> Records:
        """The reference as records."""
        scores, thresholds = self.reference.scores, self.model_info["thresholds"]
        decisions = tasks.TASKS[self.model_info["task"]].decide(scores, thresholds)
        return Records(self.reference.embeddings, scores, decisions)

    def unfamiliar(self, records: Records) -> np.ndarray:
        """Whether each record is farther from the training than recordings like those are, `[N]`."""
        parts = np.array_split(records.embeddings, len(records) // AT_A_TIME + 1)
        distances = np.concatenate([self.familiarity.distances(part) for part in parts])
        return distances > self.familiarity.threshold


def load(folder: Path) -> Watched:
    """Return the bundle in a folder. Raises UserError if it is damaged, or has nothing to be watched
    by."""
    model_info = read_model_info(folder)
    reference, known = read_reference_of(folder, model_info), read_familiarity(folder, model_info)
    assert known  # which the reference was made with
    place = folder.resolve()  # whose names `.` and `..` are not
    return Watched(place.parent.name, place.name, model_info, reference, known)


@dataclass(frozen=True)
class Column:
    """A feature or score. `p`: corrected for their number (Holm). `shift` of its mean, within `low` and
    `high` with 95 %, in deviations of the reference. `wasserstein`, in deviations, and `psi`: sizes."""

    name: str
    is_score: bool
    p: float
    shift: float
    low: float
    high: float
    wasserstein: float
    psi: float


@dataclass(frozen=True)
class Share:
    """What share of records was decided to be of a class, or had a warning: in the `reference`, within
    `low` and `high` by chance, and in the `window`; `p` as of columns; `smallest`: the change that would
    have been found with a probability of 80 %."""

    name: str
    reference: float
    low: float
    high: float
    window: float
    p: float
    smallest: float


@dataclass(frozen=True)
class Finding:
    """What a check has found. `records`: of the window, `compared`: of these, `validation`: that they are
    compared with; `p`: of all `families` of tests together; `smallest_shift` of a column, in deviations,
    that would have been found with a probability of 80 %."""

    dataset: str
    model: str
    weights: str
    simulated: bool
    checked: datetime
    first: datetime | None
    last: datetime | None
    level: float
    records: int
    compared: int
    validation: int
    verdict: Verdict
    smallest_shift: float
    p: float | None = None
    families: dict[str, float] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)
    classes: list[Share] = field(default_factory=list)
    unfamiliar: Share | None = None
    warnings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def worse(self) -> list[str]:
        """Metrics that are worse than of the test records, by what experts have said."""
        return [outcome.metric for outcome in self.outcomes if outcome.p <= self.level]

    @property
    def culprits(self) -> list[str]:
        """Features, scores and classes that differ by themselves, the surest first."""
        p = {column.name: column.p for column in self.columns}
        p |= {f"the share of {share.name}": share.p for share in self.classes}
        if self.unfamiliar:
            p["the share of unfamiliar recordings"] = self.unfamiliar.p
        return sorted((name for name in p if p[name] <= self.level), key=lambda name: p[name])


def of_window(window: Window) -> Records:
    """Return the records of logged answers that have an embedding, and scores that are finite."""
    finite = [np.isfinite(values).all(axis=1) for values in (window.embeddings, window.scores)]
    usable = finite[0] & finite[1] & bool(window.embeddings.size)
    if usable.all():  # a copy would take as much memory again
        return Records(
            window.embeddings, window.scores, window.decisions, window.warnings, window.entities
        )
    whole = np.flatnonzero(usable)
    return Records(
        window.embeddings[whole],
        window.scores[whole],
        window.decisions[whole],
        [window.warnings[row] for row in whole],
        [window.entities[row] for row in whole],
    )


def check(
    watched: Watched,
    window: Records,
    settings: Settings,
    checked: datetime,
    period: tuple[datetime, datetime] | None = None,
) -> Finding:
    """Compare a window with a bundle's validation records."""
    reference, used = watched.records, _sample(window)
    names, _ = columns(reference.embeddings[:1], watched.model_info["dataset"])
    tests = len(names) + reference.scores.shape[1]
    enough = len(window) >= settings.records and len(reference) >= FEWEST_REFERENCE
    first, last = period or (None, None)
    about: dict[str, Any] = {
        "dataset": watched.dataset,
        "model": watched.model,
        "weights": watched.weights,
        "simulated": watched.model_info["dataset"]["simulated"],
        "checked": checked,
        "first": first,
        "last": last,
        "level": settings.level,
        "records": len(window),
        "compared": len(used),
        "validation": len(reference),
        "smallest_shift": two_samples.smallest_shift(
            len(reference), len(used), settings.level / tests
        ),
        "notes": _notes(window, used, reference, settings),
    }
    if not enough:
        return Finding(**about, verdict="too few")
    families = p_values(watched, reference, used)
    p = two_samples.least(np.stack([*families.values()]))
    return Finding(
        **about,
        verdict="drift" if p <= settings.level else "none",
        p=p,
        families={name: float(values[0]) for name, values in families.items()},
        columns=_columns(watched, reference, used),
        classes=_classes(watched, window, settings.level),
        unfamiliar=_unfamiliar(watched, window, settings.level),
        warnings=_warnings(window),
    )


def _sample(window: Records) -> Records:
    if len(window) <= MOST_RECORDS:
        return window
    chosen = np.random.default_rng(0).choice(len(window), MOST_RECORDS, replace=False)
    return window.rows(np.sort(chosen))


def _notes(window: Records, used: Records, reference: Records, settings: Settings) -> list[str]:
    notes = []
    if len(window) < settings.records:
        notes.append(
            f"{len(window)} records are too few to tell: monitoring.drift.records asks for "
            f"{settings.records}"
        )
    if len(reference) < FEWEST_REFERENCE:
        notes.append(
            f"{len(reference)} validation records are too few to compare with: train on more data, at "
            f"least {FEWEST_REFERENCE} of validation"
        )
    if len(used) < len(window):
        notes.append(
            f"{len(used):,} of the {len(window):,} records, chosen by chance, were compared"
        )
    counts = Counter(name for name in window.entities if name is not None)
    effective = sum(counts.values()) ** 2 / (sum(n * n for n in counts.values()) or 1)
    if counts and effective < FEW_ENTITIES:
        notes.append(
            f"most records are of few machines or persons (as many as {effective:.1f} with equal "
            f"shares): a p-value counts each record as one that was drawn by itself, and is too small"
        )
    return notes


# ---------------------------------------------------------------- the decision


def p_values(
    watched: Watched, reference: Records, window: Records, permutations: int = PERMUTATIONS
) -> dict[str, np.ndarray]:
    """Return the p-values of each family of tests, of the records as they are and of every permutation of
    them, `[1 + permutations]`."""
    membership = two_samples.memberships(len(reference), len(window), permutations)
    pooled = Records(
        np.concatenate([reference.embeddings, window.embeddings]),
        np.concatenate([reference.scores, window.scores]),
        np.concatenate([reference.decisions, window.decisions]),
    )
    values = _values(watched, pooled)
    values = two_samples.on_grid(values, _deviations(values[: len(reference)], reference))
    exclusive = watched.model_info["task"] == "multiclass"
    statistics = {
        "features and scores": two_samples.largest(
            two_samples.cramer_von_mises(values, membership)
        ),
        "embeddings": two_samples.mean_discrepancy(pooled.embeddings, membership),
        "classes": two_samples.class_shares(pooled.decisions, membership, exclusive),
        "unfamiliar": membership @ watched.unfamiliar(pooled).astype(np.float32),
    }
    return {name: two_samples.p_values(statistic) for name, statistic in statistics.items()}


def _values(watched: Watched, records: Records) -> np.ndarray:
    """Return the columns `[N, C]` of records: features, then scores."""
    features = columns(records.embeddings, watched.model_info["dataset"])[1]
    return np.concatenate([features, records.scores], axis=1, dtype=np.float64)


def _deviations(values: np.ndarray, reference: Records) -> np.ndarray:
    """Return the deviations of the columns `[N, C]` of the reference, above what rounding makes: features
    are of the order of 1, such as those of recordings that are normalized one by one, which are all of
    one power."""
    least = np.full(values.shape[1], LEAST_DEVIATION)
    scores = np.abs(reference.scores).max(axis=0)
    least[-len(scores) :] *= np.where(scores > 0, scores, 1)
    return np.maximum(values.std(axis=0), least)


# ---------------------------------------------------------------- what differs, and by how much


def _columns(watched: Watched, reference: Records, window: Records) -> list[Column]:
    dataset = watched.model_info["dataset"]
    features = columns(reference.embeddings[:1], dataset)[0]
    before, after = _values(watched, reference), _values(watched, window)
    deviation = _deviations(before, reference)
    rounded = two_samples.on_grid(np.concatenate([before, after]), deviation)
    halves = rounded[: len(before)].T, rounded[len(before) :].T
    p = two_samples.holm(
        np.array([two_samples.column_p_value(*pair) for pair in zip(*halves, strict=True)])
    )
    shift = (after.mean(axis=0) - before.mean(axis=0)) / deviation
    variance = before.var(axis=0) / len(before) + after.var(axis=0) / len(after)
    error = 1.96 * np.sqrt(variance) / deviation
    return [
        Column(
            name=name,
            is_score=number >= len(features),
            p=float(p[number]),
            shift=float(shift[number]),
            low=float(shift[number] - error[number]),
            high=float(shift[number] + error[number]),
            wasserstein=stats.wasserstein_distance(before[:, number], after[:, number])
            / deviation[number],
            psi=two_samples.population_stability(before[:, number], after[:, number]),
        )
        for number, name in enumerate([*features, *watched.score_names])
    ]


def _classes(watched: Watched, window: Records, level: float) -> list[Share]:
    """Return the shares of all validation records and of the whole window that were decided to be of each
    class."""
    after = window.decisions.sum(axis=0, dtype=np.int64).tolist()
    counts = zip(watched.reference.decided.tolist(), after, strict=True)
    return _shares(watched.model_info["classes"], counts, watched, window, level)


def _unfamiliar(watched: Watched, window: Records, level: float) -> Share:
    counts = [(watched.reference.unfamiliar, int(watched.unfamiliar(window).sum()))]
    return _shares(["unfamiliar"], counts, watched, window, level)[0]


def _shares(
    names: Sequence[str],
    counts: Iterable[tuple[int, int]],
    watched: Watched,
    window: Records,
    level: float,
) -> list[Share]:
    sizes = watched.reference.records, len(window)
    pairs = list(counts)
    p = two_samples.holm(np.array([two_samples.share_p_value(pair, sizes) for pair in pairs]))
    shares = []
    for name, (before, after), corrected in zip(names, pairs, p, strict=True):
        low, high = stats.binomtest(before, sizes[0]).proportion_ci(method="wilson")
        share = before / sizes[0]
        smallest = two_samples.smallest_change(share, *sizes, level / len(names))
        shares.append(Share(name, share, low, high, after / sizes[1], float(corrected), smallest))
    return shares


def _warnings(window: Records) -> dict[str, float]:
    counts = Counter(code for codes in window.warnings for code in set(codes))
    return {code: count / len(window) for code, count in sorted(counts.items())}
