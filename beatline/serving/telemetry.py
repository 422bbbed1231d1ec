"""Telemetry: the server's metrics for Prometheus, summed over its worker processes.

Where the environment variable PROMETHEUS_MULTIPROC_DIR names a folder when this module is imported, each
process keeps its numbers in files there and any of them reports the sum. Labels are names of our own
(routes, models, classes, codes): a request cannot make up new ones.
"""

from __future__ import annotations

import os
from collections import Counter as Count
from functools import partial
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess

if TYPE_CHECKING:
    from beatline.serving.model import Model

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
WORKERS_READY = "beatline_workers_ready"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"  # route or method
SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05)
SECONDS = (*SECONDS, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
RELATIVE_SCORES = (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 5, 10)
MODEL = ("dataset", "model")
SHORT = 12  # digits of a revision or a sum

prometheus_client.disable_created_metrics()  # a time for each number, which nothing here asks for


class Telemetry:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        where: Any = {"registry": self._registry, "namespace": "beatline"}
        counter, gauge = partial(Counter, **where), partial(Gauge, **where)
        histogram = partial(Histogram, **where)
        self._requests = counter("requests", "Requests answered.", ("route", "method", "status"))
        self._seconds = histogram(
            "request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=SECONDS,
        )
        self._in_flight = gauge(
            "requests_in_flight", "Requests that are being answered.", multiprocess_mode="livesum"
        )
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
            (*MODEL, "revision", "weights"),
            multiprocess_mode="livemax",
        )
        self._ready = gauge(
            "workers_ready",
            "Processes that have loaded what there is, and can answer.",
            multiprocess_mode="livesum",
        )
        self._loads = counter("model_loads", "Bundles loaded.", MODEL)
        self._failures = counter("model_load_failures", "Bundles that could not be loaded.", MODEL)

    def began(self) -> None:
        self._in_flight.inc()

    def ended(self, route: str, method: str, status: str, seconds: float) -> None:
        """`route`: of ours, or OTHER. `status`: of HTTP, or a word if there was no answer."""
        self._in_flight.dec()
        method = method if method in METHODS else OTHER
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, model: Model, *answers: dict[str, Any]) -> None:
        """Count answers about recordings or rows of features."""
        names = model.dataset, model.name
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

    def loaded(self, model: Model, previous: Model | None) -> None:
        self._loads.labels(model.dataset, model.name).inc()
        if previous is not None:
            # The files of several processes forget no label: what was has the value 0.
            self._identity.labels(*_identity(previous)).set(0)
        self._identity.labels(*_identity(model)).set(1)

    def ready(self, ready: bool) -> None:
        self._ready.set(ready)

    def load_failed(self, key: str) -> None:
        self._failures.labels(*key.split("/")).inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        everything = self._registry
        if FOLDER in os.environ:
            everything = CollectorRegistry()
            multiprocess.MultiProcessCollector(everything)
        return prometheus_client.generate_latest(everything)


def _identity(model: Model) -> tuple[str, str, str, str]:
    revision = model.identity["revision"] or "unknown"
    return model.dataset, model.name, revision[:SHORT], model.identity["weights"][:SHORT]
