"""Telemetry: the server's metrics for Prometheus, summed over its worker processes.

Where the environment variable PROMETHEUS_MULTIPROC_DIR names a folder when this module is imported, each
process keeps its numbers in files there and any of them reports the sum. Labels are names of our own
(routes, models, classes, codes) or the operator's (sources): a request cannot make up new ones.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import prometheus_client
import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from beatline.monitoring import states
from beatline.monitoring.writer import Outcome
from beatline.tracking import copies

if TYPE_CHECKING:
    from beatline.monitoring.machines import Counts
    from beatline.prediction.reference import Reference
    from beatline.serving.model import Model
    from beatline.serving.settings import Serve

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
WORKERS_READY = "beatline_workers_ready"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SOURCES = "BEATLINE_SOURCES"  # in the environment: the values of X-Source that are counted apart
OTHER = "other"  # route, method or source
SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05)
SECONDS = (*SECONDS, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
RELATIVE_SCORES = (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 5, 10)
AGES = (60, 600, 3600, 6 * 3600, 12 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 30 * 86_400)
QUANTILES = (0.05, 0.5, 0.95)
MODEL = ("dataset", "model")
SHORT = 12  # digits of a revision or a sum
Stored = Literal["stored", "failed", "dropped"]
Shadowed = Literal["answered", "failed", "left out"]

log = logging.getLogger("beatline.serving")
prometheus_client.disable_created_metrics()  # a time for each number, which nothing here asks for


class Telemetry:
    """The metrics of one application."""

    def __init__(self, limits: Serve, root: Path = Path()) -> None:
        self._root = root
        self._registry = CollectorRegistry()
        self._named_sources = frozenset(os.environ.get(SOURCES, "").split())
        where: Any = {"registry": self._registry, "namespace": "beatline"}
        counter, gauge = partial(Counter, **where), partial(Gauge, **where)
        histogram = partial(Histogram, **where)
        self._requests = counter("requests", "Requests answered.", ("route", "method", "status"))
        self._seconds = histogram(
            "request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=_up_to(limits.seconds_to_send + limits.seconds_to_answer, SECONDS),
        )
        self._sources = counter("source_requests", "Requests answered, by X-Source.", ("source",))
        self._rows = histogram(
            "rows", "Rows of features in a request.", MODEL, buckets=_up_to(limits.max_rows, ROWS)
        )
        self._in_flight = gauge(
            "requests_in_flight", "Requests that are being answered.", multiprocess_mode="livesum"
        )
        self._answers = counter("answers", "Recordings and rows answered about.", MODEL)
        self._predictions = counter(
            "predictions", "Answers by what was decided.", (*MODEL, "predicted")
        )
        self._probabilities = histogram(
            "probability",
            "Probabilities: of each class, of exclusive classes only that of the predicted one.",
            (*MODEL, "class"),
            buckets=PROBABILITIES,
        )
        self._scores = histogram(
            "relative_score",
            "Anomaly scores divided by the model's threshold.",
            MODEL,
            buckets=RELATIVE_SCORES,
        )
        self._warnings = counter("warnings", "Warnings in answers.", (*MODEL, "code"))
        self._identity = gauge(
            "model_info",
            "1 for what is loaded, 0 for what was.",
            (*MODEL, "revision", "weights", "version", "alias"),
            multiprocess_mode="livemax",
        )
        self._stored = counter(
            "machine_features", "Rows of features for the store, by what came of it.", ("outcome",)
        )
        self._logged = counter(
            "answer_log_rows", "Rows for the log of answers, by what came of it.", ("outcome",)
        )
        self._shadowed = counter(
            "shadow_answers", "Answers of challengers beside their champions.", ("outcome",)
        )
        for family, outcomes in (
            (self._stored, Stored),
            (self._logged, Outcome),
            (self._shadowed, Shadowed),
        ):
            for outcome in get_args(outcomes):  # so that the first one is an increase
                family.labels(outcome)
        newest: Any = {"multiprocess_mode": "livemostrecent"}
        self._reference_scores = gauge(
            "reference_score",
            "Quantiles of validation records: relative scores; probabilities, as beatline_probability.",
            (*MODEL, "class", "quantile"),
            **newest,
        )
        self._reference_shares = gauge(
            "reference_class_share",
            "The share of validation records that were decided to be of a class, and its 95 % interval.",
            (*MODEL, "class", "of"),
            **newest,
        )
        self._machines = gauge(
            "machines",
            "Machines in the log of answers: known, with an open alarm, with old features.",
            ("state",),
            **newest,
        )
        self._measured = gauge(
            "machine_features_timestamp_seconds",
            "When the newest and the oldest features of machines were measured, since 1970-01-01 UTC.",
            ("of",),
            **newest,
        )
        self._ages = histogram(
            "features_age_seconds",
            "The age of features of the store when they were asked for.",
            ("table",),
            buckets=sorted({*AGES, limits.max_age_seconds}),
        )
        self._ready = gauge(
            "workers_ready",
            "Processes that have loaded what there is, and can answer.",
            multiprocess_mode="livesum",
        )
        self._loads = counter("model_loads", "Bundles loaded.", MODEL)
        self._failures = counter("model_load_failures", "Bundles that could not be loaded.", MODEL)
        self._failing = gauge(
            "model_load_failing",
            "1 while the newest bundle of a champion or challenger cannot be loaded, else 0.",
            (*MODEL, "role"),
            multiprocess_mode="livemax",
        )

    def began(self) -> None:
        self._in_flight.inc()

    def ended(
        self, route: str, method: str, status: str, seconds: float, source: str | None
    ) -> None:
        """`route`: of ours, or OTHER. `status`: of HTTP, or a word if there was no answer. `source`: what
        the client calls itself."""
        self._in_flight.dec()
        method = method if method in METHODS else OTHER
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)
        if source is not None:
            self._sources.labels(source if source in self._named_sources else OTHER).inc()

    def answered(self, model: Model, *answers: dict[str, Any]) -> None:
        """Count answers about recordings or rows of features."""
        names = model.dataset, model.name
        self._answers.labels(*names).inc(len(answers))
        predicted: Count[str] = Count()
        for answer in answers:
            if "score" in answer:
                predicted["anomaly" if answer["anomaly"] else "normal"] += 1
                if answer["threshold"] > 0:
                    self._scores.labels(*names).observe(answer["score"] / answer["threshold"])
            elif "decisions" in answer:
                decisions = answer["decisions"]
                predicted.update([name for name in decisions if decisions[name]] or ["none"])
                for name, probability in answer["probabilities"].items():
                    self._probabilities.labels(*names, name).observe(probability)
            else:
                predicted[answer["class"]] += 1
                probabilities = self._probabilities.labels(*names, answer["class"])
                probabilities.observe(answer["probability"])
        for name, count in predicted.items():
            self._predictions.labels(*names, name).inc(count)
        codes = Count(warning["code"] for answer in answers for warning in answer["warnings"])
        for code, count in codes.items():
            self._warnings.labels(*names, code).inc(count)

    def took_rows(self, model: Model, count: int) -> None:
        """Count the rows of a request to ``POST /predict``."""
        self._rows.labels(model.dataset, model.name).observe(count)

    def stored(self, outcome: Stored) -> None:
        """Count a row for the feature store."""
        self._stored.labels(outcome).inc()

    def logged(self, outcome: Outcome, rows: int) -> None:
        """Count rows for the log of answers."""
        self._logged.labels(outcome).inc(rows)

    def shadowed(self, outcome: Shadowed) -> None:
        """Count an answer that a challenger made, or should have made."""
        self._shadowed.labels(outcome).inc()

    def loaded(self, model: Model, previous: Model | None) -> None:
        self._loads.labels(model.dataset, model.name).inc()
        if previous is not None:
            # The files of several processes forget no label: what was has the value 0.
            self._identity.labels(*_identity(previous)).set(0)
        self._identity.labels(*_identity(model)).set(1)

    def watched(self, model: Model, previous: Model | None, reference: Reference | None) -> None:
        """Show the validation records of what was loaded, and nothing of what was before."""
        for each, values in ((previous, None), (model, reference)):
            if each is None:
                continue
            names = each.dataset, each.name
            for number, name in enumerate(each.classes):
                for quantile, value in _quantiles(each, values, number).items():
                    self._reference_scores.labels(*names, name, quantile).set(value)
                for of, value in _share(values, number).items():
                    self._reference_shares.labels(*names, name, of).set(value)

    def machines_seen(self, counts: Counts | None) -> None:
        """Show how many machines there are; `counts`: None if the log could not be read."""
        nan = math.nan
        for state in ("known", "alarm", "old"):
            self._machines.labels(state).set(getattr(counts, state) if counts else nan)
        for of in ("newest", "oldest"):
            moment = counts and getattr(counts, of)
            self._measured.labels(of).set(nan if moment is None else moment)

    def features_read(self, table: str, age: float) -> None:
        """Note the age of a machine's features, in seconds, when they were asked for."""
        self._ages.labels(table).observe(max(age, 0))

    def ready(self, ready: bool) -> None:
        self._ready.set(ready)

    def load_failed(self, key: str, role: str) -> None:
        self._failures.labels(*key.split("/")).inc()
        self._failing.labels(*key.split("/"), role).set(1)

    def load_succeeded(self, key: str, role: str) -> None:
        """Note that what is on disk is loaded, whether it is new or not."""
        self._failing.labels(*key.split("/"), role).set(0)
        self._failures.labels(*key.split("/"))  # 0, so that the first one is an increase

    def dropped(self, key: str, role: str, model: Model | None) -> None:
        """Note that there is no such bundle any more; `model`: what was loaded of it."""
        self._failing.labels(*key.split("/"), role).set(0)
        if model is not None:
            self._identity.labels(*_identity(model)).set(0)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        everything = self._registry
        pids = {os.getpid()}
        if folder := os.environ.get(FOLDER):
            everything = CollectorRegistry()
            everything.register(_Workers(Path(folder)))
            # What a live process has written there; the files of dead ones are removed.
            pids |= {int(path.stem.split("_")[-1]) for path in Path(folder).glob("gauge_live*.db")}
        processes = CollectorRegistry()
        processes.register(_Processes(pids))
        processes.register(_RegistryOfModels(self._root))
        processes.register(_States(self._root, states.drift, "drift", _DRIFT))
        processes.register(_States(self._root, states.retrainings, "retraining", _RETRAINING))
        return b"".join(map(prometheus_client.generate_latest, (everything, processes)))


class _Workers(Collector):
    """What all worker processes have written into their folder.

    prometheus_client makes a file before it writes into it, and cannot read an empty one: a worker that
    is just starting, or was killed between the two, would take the numbers of all others along (its
    issue 1199).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        begun = [str(path) for path in self._folder.glob("*.db") if _size(path)]
        return multiprocess.MultiProcessCollector.merge(begun)


class _Processes(Collector):
    """What the server's processes use: prometheus_client knows it of one process only, and not where
    there are several."""

    def __init__(self, workers: set[int]) -> None:
        parent = parent_process()
        self._roles = dict.fromkeys(sorted(workers), "worker")
        if parent and parent.pid:
            self._roles[parent.pid] = "parent"

    def collect(self) -> Iterator[Metric]:
        labels = ("role", "pid")
        cpu = CounterMetricFamily("process_cpu_seconds", "User and system time.", labels=labels)
        memory = GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Resident memory, shared pages included.",
            labels=labels,
        )
        files = GaugeMetricFamily("process_open_fds", "Open files and sockets.", labels=labels)
        start = GaugeMetricFamily(
            "process_start_time_seconds", "Start, since 1970-01-01 UTC.", labels=labels
        )
        for pid, role in self._roles.items():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    values = [
                        times.user + times.system,
                        process.memory_info().rss,
                        process.num_fds(),
                        process.create_time(),
                    ]
            except psutil.Error:  # it has ended in the meantime
                continue
            for family, value in zip((cpu, memory, files, start), values, strict=True):
                family.add_metric((role, str(pid)), value)
        yield from (cpu, memory, files, start)


class _RegistryOfModels(Collector):
    """When the registry of models has last answered, where models come from one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def collect(self) -> Iterator[Metric]:
        if (state := copies.read_state(self._root)) is None:
            return
        yield GaugeMetricFamily(
            "beatline_registry_answered_timestamp_seconds",
            "The last answer of the registry of models, since 1970-01-01 UTC.",
            value=state["asked"] or 0,
        )
        yield GaugeMetricFamily(
            "beatline_registry_away",
            "1 while the registry of models does not answer.",
            value=state["reason"] is not None,
        )


_Samples = Iterable[tuple[Sequence[str], float]]
# Name, help, labels besides those of the model, and their values with the gauge's, of a state.
_Families = dict[str, tuple[str, tuple[str, ...], Callable[[dict[str, Any]], _Samples]]]


class _States(Collector):
    """What the last check or retraining of each model has left in a file."""

    def __init__(
        self,
        root: Path,
        read: Callable[[Path], list[dict[str, Any]]],
        prefix: str,
        families: _Families,
    ) -> None:
        self._root = root
        self._read = read
        self._prefix = prefix
        self._families = families

    def collect(self) -> Iterator[Metric]:
        found = self._read(self._root)
        for name, (help_text, labels, values) in self._families.items():
            name = f"beatline_{self._prefix}{name}"
            family = GaugeMetricFamily(name, help_text, labels=(*MODEL, *labels))
            for state in found:
                try:
                    key = state.get("key") or f"{state['dataset']}/{state['model']}"
                    dataset, model = key.split("/")
                    samples = [((dataset, model, *own), float(v)) for own, v in values(state)]
                except (
                    AttributeError,
                    KeyError,
                    TypeError,
                    ValueError,
                ):  # of another version: its time is missing
                    log.warning("%s: a state in a file is not as expected", name)
                    continue
                for own, value in samples:
                    family.add_metric(own, value)
            if family.samples:
                yield family


def _class_shares(state: dict[str, Any]) -> Iterator[tuple[list[str], float]]:
    for share in state["classes"]:
        for of, key in (("validation", "reference"), ("low", "low"), ("high", "high")):
            yield [share["name"], of], share[key]
        yield [share["name"], "window"], share["window"]


_DRIFT: _Families = {
    "": (
        "1 if the last check found drift, 0 if none; nothing if it could not tell.",
        (),
        lambda state: [] if state["p"] is None else [((), float(state["verdict"] == "drift"))],
    ),
    "_p_value": (
        "The p-value of each family of tests in the last check, and of all together.",
        ("family",),
        lambda state: [
            ([name], p)
            for name, p in (state["families"] | {"all": state["p"]}).items()
            if p is not None
        ],
    ),
    "_feature_shift": (
        "The shift of a feature or score in the last check, in deviations of validation records.",
        ("feature",),
        lambda state: [([column["name"]], column["shift"]) for column in state["columns"]],
    ),
    "_class_share": (
        "The share of records of each predicted class: of validation, its interval, and of the window.",
        ("class", "of"),
        _class_shares,
    ),
    "_records": (
        "Records of the window that was last checked.",
        (),
        lambda state: [((), state["records"])],
    ),
    "_checked_timestamp_seconds": (
        "The last check for drift, since 1970-01-01 UTC.",
        (),
        lambda state: [((), datetime.fromisoformat(state["checked"]).timestamp())],
    ),
}


# Of beatline.monitoring.retraining.Outcome.
_RETRAINING: _Families = {
    "_outcome": (
        "1 for what the gate said of the last challenger, 0 for what it did not.",
        ("outcome",),
        lambda state: [((each,), float(state["outcome"] == each)) for each in states.GATE],
    ),
    "_learned_records": (
        "Recordings with feedback that the last challenger has learned from.",
        (),
        lambda state: [((), state["learned"])],
    ),
    "_finished_timestamp_seconds": (
        "The end of the last retraining, since 1970-01-01 UTC.",
        (),
        lambda state: [((), datetime.fromisoformat(state["finished"]).timestamp())],
    ),
}


def _quantiles(model: Model, reference: Reference | None, number: int) -> dict[str, float]:
    """Return quantiles of the scores of a class as they are counted in production: of exclusive classes
    those of records that were predicted to be of it; NaN where there are none."""
    scores = np.empty(0)
    if reference is not None:
        scores = reference.scores[:, number]
        if model.task == "multiclass":
            scores = scores[reference.scores.argmax(axis=1) == number]
        if model.detects:
            threshold = model.model_info["thresholds"][number]
            scores = scores / threshold if threshold > 0 else np.empty(0)
    values = np.quantile(scores, QUANTILES) if len(scores) else [math.nan] * len(QUANTILES)
    return {f"{quantile:g}": float(each) for quantile, each in zip(QUANTILES, values, strict=True)}


def _share(reference: Reference | None, number: int) -> dict[str, float]:
    """Return the share of validation records of a class, with Wilson's interval as of
    :mod:`beatline.monitoring.drift`; NaN where there are none."""
    if reference is None:
        return dict.fromkeys(("validation", "low", "high"), math.nan)
    n, p, z = reference.records, reference.decided[number] / reference.records, 1.959964
    middle, width = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * width) / (1 + z**2 / n) for sign in (-1, 1))
    return {"validation": float(p), "low": max(low, 0.0), "high": min(high, 1.0)}


def _up_to(limit: float, bounds: tuple[float, ...]) -> tuple[float, ...]:
    """Return the bounds of a histogram up to a limit, which is one of them: what has reached it can be
    told from what is beyond."""
    return (*takewhile(lambda bound: bound < limit, bounds), limit)


def _size(path: Path) -> int:
    """In bytes; 0 also of a file that a worker's end has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _identity(model: Model) -> tuple[str, ...]:
    revision, version = model.identity["revision"] or "unknown", model.registered or {}
    weights = model.identity["weights"]
    return (
        *(model.dataset, model.name, revision[:SHORT], weights[:SHORT]),
        version.get("version", ""),
        version.get("alias", ""),
    )
