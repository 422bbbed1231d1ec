"""Write the dashboards that Grafana is provisioned with: `python deploy/grafana/make.py`.

A panel is a line or two here and forty in JSON, which is what Grafana reads and Git holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
SCHEMA = 39  # of Grafana 10.4 and 11, which later versions migrate
COLUMNS = 24
RATE = "$__rate_interval"
OF_ROUTE = 'route=~"$route"'
OF_MODEL = 'dataset=~"$dataset", model=~"$model"'
LIMIT = 0.05  # seconds, of a raw request
# A threshold from which on a value is drawn in a colour.
Steps = tuple[tuple[float, str], ...]
Panel = dict[str, Any]


def panel(
    title: str,
    description: str,
    *targets: tuple[str, str],
    kind: str = "timeseries",
    unit: str = "short",
    steps: Steps = (),
    size: tuple[int, int] = (12, 8),
    dashed: str = "",
    **defaults: Any,
) -> Panel:
    """Return a panel of expressions with their legends. `size`: columns and rows; `dashed`: a pattern of
    the legends of what is drawn as a band or a limit; `defaults`: of its fields."""
    instant = kind != "timeseries"
    colours = [{"color": "green", "value": None}]
    colours += [{"color": colour, "value": value} for value, colour in steps]
    custom = {"thresholdsStyle": {"mode": "dashed" if steps else "off"}, "showPoints": "never"}
    style = [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        {"id": "custom.fillOpacity", "value": 0},
    ]
    overrides = [{"matcher": {"id": "byRegexp", "options": dashed}, "properties": style}]
    return {
        "title": title,
        "description": description,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "thresholds": {"mode": "absolute", "steps": colours},
                **({} if instant else {"custom": custom}),
                **defaults,
            },
            "overrides": overrides if dashed else [],
        },
        "options": OPTIONS[kind],
        "targets": [
            {
                "refId": letter,
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if kind == "table" else {}),
            }
            for letter, (expr, legend) in zip(ascii_uppercase, targets, strict=False)
        ],
    }


_LAST = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {**_LAST, "colorMode": "value", "graphMode": "none", "textMode": "auto"},
    "bargauge": {**_LAST, "displayMode": "basic", "orientation": "horizontal"},
    "table": {"showHeader": True},
}


def stat(title: str, description: str, expr: str, legend: str = "", **more: Any) -> Panel:
    """Return a panel of one number, or of one for each label."""
    return panel(title, description, (expr, legend), kind="stat", **{"size": (6, 5), **more})


def variable(name: str, query: str) -> dict[str, Any]:
    """Return a choice of the values that a label has."""
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the range of times changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(
    uid: str, title: str, description: str, variables: list[dict[str, Any]], panels: Iterable[Panel]
) -> dict[str, Any]:
    """Return a dashboard, whose panels stand one after the other in rows."""
    placed, x, y, height = [], 0, 0, 0
    for number, each in enumerate(panels, 1):
        grid = each["gridPos"]
        if x + grid["w"] > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append({"id": number, **each, "gridPos": {"x": x, "y": y, **grid}})
        x, height = x + grid["w"], max(height, grid["h"])
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["beatline"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables},
        "links": [
            {"type": "dashboards", "title": "Beatline", "tags": ["beatline"], "asDropdown": False}
        ],
        "annotations": {"list": []},
        "panels": placed,
    }


def rate(metric: str, by: str, labels: str = "") -> str:
    """Return the expression of a counter's increase in a second, by labels."""
    return f"sum by ({by}) (rate(beatline_{metric}{{{labels}}}[{RATE}]))"


def quantile(share: float, metric: str, by: str, labels: str = "", over: str = RATE) -> str:
    """Return the expression of a quantile of a histogram, by labels."""
    buckets = f"sum by ({by}, le) (rate(beatline_{metric}_bucket{{{labels}}}[{over}]))"
    return f"histogram_quantile({share}, {buckets})"


def service() -> dict[str, Any]:
    """Requests, and what the processes need and lose."""
    bad: Steps = ((LIMIT, "red"),)
    return dashboard(
        "beatline-service",
        "Beatline: the service",
        "Requests, errors, times against 50 ms; processes; what reaches the log and the feature store.",
        [variable("route", "label_values(beatline_requests_total, route)")],
        [
            stat(
                "Answering",
                "Servers that Prometheus reaches.",
                'sum(up{job="beatline"})',
                color={"mode": "fixed", "fixedColor": "text"},
            ),
            stat(
                "Ready workers",
                "Processes that have loaded what there is, and can answer.",
                "sum by (instance) (beatline_workers_ready)",
                "{{instance}}",
            ),
            stat(
                "Failing requests",
                "The share of 5xx over five minutes, of the worst route.",
                f"max(beatline:request_errors:ratio_rate5m{{{OF_ROUTE}}})",
                unit="percentunit",
                steps=((0.01, "orange"), (0.05, "red")),
            ),
            stat(
                "Slower than 50 ms",
                "The share over five minutes, of the worst route; above 1 % its p99 is above 50 ms.",
                f"max(beatline:request_slow:ratio_rate5m{{{OF_ROUTE}}})",
                unit="percentunit",
                steps=((0.01, "red"),),
            ),
            panel(
                "Requests",
                "By route and status; none: the client was gone.",
                (rate("requests_total", "route, status", OF_ROUTE), "{{route}} {{status}}"),
                unit="reqps",
            ),
            panel(
                "Times",
                "Median and p99 by route, interpolated between buckets, one of which ends at 50 ms.",
                (f"beatline:request_seconds:p50_rate5m{{{OF_ROUTE}}}", "p50 {{route}}"),
                (f"beatline:request_seconds:p99_rate5m{{{OF_ROUTE}}}", "p99 {{route}}"),
                unit="s",
                steps=bad,
            ),
            panel(
                "Requests by source",
                "What clients call themselves by X-Source, of the names that --source counts apart.",
                (rate("source_requests_total", "source"), "{{source}}"),
                unit="reqps",
            ),
            panel(
                "Requests in flight",
                "That are being answered now.",
                ("sum by (instance) (beatline_requests_in_flight)", "{{instance}}"),
            ),
            panel(
                "Rows in a request",
                "Median and p95 of the rows of features that one request holds.",
                (quantile(0.5, "rows", "dataset, model"), "p50 {{dataset}}/{{model}}"),
                (quantile(0.95, "rows", "dataset, model"), "p95 {{dataset}}/{{model}}"),
            ),
            panel(
                "Processor time",
                "Of each process; 1 is one processor.",
                (
                    f'rate(process_cpu_seconds_total{{job="beatline"}}[{RATE}])',
                    "{{role}} {{pid}} {{instance}}",
                ),
            ),
            panel(
                "Resident memory",
                "Of each process, with the pages that it shares with others.",
                (
                    'process_resident_memory_bytes{job="beatline"}',
                    "{{role}} {{pid}} {{instance}}",
                ),
                unit="bytes",
            ),
            panel(
                "Open files",
                "Files and sockets of each process.",
                ('process_open_fds{job="beatline"}', "{{role}} {{pid}} {{instance}}"),
            ),
            panel(
                "Age of processes",
                "One that begins anew has died, or was told to.",
                (
                    'time() - process_start_time_seconds{job="beatline"}',
                    "{{role}} {{pid}} {{instance}}",
                ),
                unit="s",
            ),
            panel(
                "Rows for the log of answers",
                "Dropped: the log could not keep up; failed: it could not be written.",
                (rate("answer_log_rows_total", "outcome"), "{{outcome}}"),
                unit="wps",
            ),
            panel(
                "Rows for the feature store",
                "Features of machines that were measured, by what came of them.",
                (rate("machine_features_total", "outcome"), "{{outcome}}"),
                unit="wps",
            ),
            panel(
                "Answers of challengers",
                "Beside their champions, unheard. Left out: beyond the budget.",
                (rate("shadow_answers_total", "outcome"), "{{outcome}}"),
                unit="ops",
            ),
            panel(
                "Loading of models",
                "Bundles loaded and failures, of the last hour; 1 while the newest cannot be loaded.",
                (
                    "sum by (dataset, model) (increase(beatline_model_loads_total[1h]))",
                    "loaded {{dataset}}/{{model}}",
                ),
                (
                    "sum by (dataset, model) (increase(beatline_model_load_failures_total[1h]))",
                    "failed {{dataset}}/{{model}}",
                ),
                (
                    "max by (dataset, model, role) (beatline_model_load_failing)",
                    "failing {{role}} {{dataset}}/{{model}}",
                ),
            ),
            stat(
                "Registry of models",
                "1 while it does not answer; champions go on.",
                "max by (instance) (beatline_registry_away)",
                "{{instance}}",
                steps=((1, "red"),),
            ),
            stat(
                "The registry's last answer",
                "How long ago it was.",
                "time() - max by (instance) (beatline_registry_answered_timestamp_seconds)",
                "{{instance}}",
                unit="s",
            ),
            panel(
                "Open alarms",
                "Rules of alerts.yml that fire; docs/monitoring.md says what to do.",
                ('ALERTS{alertstate="firing"}', ""),
                kind="table",
            ),
        ],
    )


def models() -> dict[str, Any]:
    """What models are asked and say, against their validation records; drift, machines, retraining."""
    by = "dataset, model"
    name = "{{dataset}}/{{model}}"
    return dashboard(
        "beatline-models",
        "Beatline: models and data",
        "Predictions, scores and warnings against validation records; drift; machines; retraining.",
        [
            variable("dataset", "label_values(beatline_model_info, dataset)"),
            variable("model", 'label_values(beatline_model_info{dataset=~"$dataset"}, model)'),
        ],
        [
            panel(
                "Loaded models",
                "Revision, weights, version and alias in the registry; both are empty for own bundles.",
                (f"beatline_model_info{{{OF_MODEL}}} == 1", ""),
                kind="table",
                size=(24, 7),
            ),
            panel(
                "Answers",
                "Recordings and rows answered about.",
                (rate("answers_total", by, OF_MODEL), name),
                unit="ops",
            ),
            panel(
                "Warnings",
                "The share of answers of an hour with each warning; unfamiliar is far from the training.",
                (f"beatline:warnings:ratio_rate1h{{{OF_MODEL}}}", "{{code}} " + name),
                unit="percentunit",
                steps=((0.2, "red"),),
            ),
            panel(
                "Class shares against validation",
                "What share of an hour's answers was decided to be of a class; dashed the 95 % interval "
                "of validation records. It is of those alone: an hour with few answers strays farther.",
                (f"beatline:predictions:ratio_rate1h{{{OF_MODEL}}}", "{{predicted}} " + name),
                (
                    f'beatline_reference_class_share{{{OF_MODEL}, of=~"low|high"}}',
                    "{{of}} {{class}} " + name,
                ),
                unit="percentunit",
                dashed="^(low|high) ",
            ),
            panel(
                "Anomaly scores against validation",
                "Median and p95 of an hour's scores divided by the threshold, between buckets; dashed "
                "quantiles of validation records. Above 1 is an anomaly.",
                (
                    quantile(0.5, "relative_score", by, OF_MODEL, "1h"),
                    "p50 " + name,
                ),
                (
                    quantile(0.95, "relative_score", by, OF_MODEL, "1h"),
                    "p95 " + name,
                ),
                (
                    f'beatline_reference_score{{{OF_MODEL}, class="anomaly"}}',
                    "validation {{quantile}} " + name,
                ),
                steps=((1, "red"),),
                dashed="^validation ",
            ),
            panel(
                "Probabilities against validation",
                "Median and p95 of an hour's probabilities of each class (of exclusive ones, of what was "
                "predicted), between buckets; dashed quantiles of validation records.",
                (
                    quantile(0.5, "probability", f"{by}, class", OF_MODEL, "1h"),
                    "p50 {{class}} " + name,
                ),
                (
                    quantile(0.95, "probability", f"{by}, class", OF_MODEL, "1h"),
                    "p95 {{class}} " + name,
                ),
                (
                    f'beatline_reference_score{{{OF_MODEL}, class!="anomaly"}}',
                    "validation {{quantile}} {{class}} " + name,
                ),
                unit="percentunit",
                dashed="^validation ",
            ),
            panel(
                "Drift by family of tests",
                "p-values of the last check; all: of the decision.",
                (
                    f"max by ({by}, family) (beatline_drift_p_value{{{OF_MODEL}}})",
                    "{{family}} " + name,
                ),
                unit="percentunit",
                min=0,
                max=1,
            ),
            panel(
                "Drift by feature",
                "The 20 largest shifts of the last check, in deviations of validation records.",
                (
                    f"topk(20, max by ({by}, feature) (abs(beatline_drift_feature_shift{{{OF_MODEL}}})))",
                    "{{feature}} " + name,
                ),
                kind="bargauge",
                size=(12, 12),
            ),
            panel(
                "Class shares of the last check for drift",
                "Of its window, and of validation records with their interval.",
                (
                    f"max by ({by}, class, of) (beatline_drift_class_share{{{OF_MODEL}}})",
                    "{{class}} {{of}} " + name,
                ),
                kind="bargauge",
                unit="percentunit",
                size=(12, 12),
            ),
            stat(
                "Drift",
                "1 if the last check found drift, 0 if none; nothing if it could not tell.",
                f"max by ({by}) (beatline_drift{{{OF_MODEL}}})",
                name,
                steps=((1, "red"),),
            ),
            stat(
                "The last check for drift",
                "How long ago it was.",
                f"time() - max by ({by}) (beatline_drift_checked_timestamp_seconds{{{OF_MODEL}}})",
                name,
                unit="s",
                steps=((8 * 86400, "red"),),
            ),
            stat(
                "Records of the last check",
                "Of fewer than monitoring.drift.records nothing is told.",
                f"max by ({by}) (beatline_drift_records{{{OF_MODEL}}})",
                name,
            ),
            stat(
                "The last retraining",
                "How long ago it ended.",
                f"time() - max by ({by}) (beatline_retraining_finished_timestamp_seconds{{{OF_MODEL}}})",
                name,
                unit="s",
            ),
            panel(
                "The last challengers",
                "What the gate said, and how many recordings with feedback they learned from.",
                (
                    f"max by ({by}, outcome) (beatline_retraining_outcome{{{OF_MODEL}}}) == 1",
                    "{{outcome}} " + name,
                ),
                (
                    f"max by ({by}) (beatline_retraining_learned_records{{{OF_MODEL}}})",
                    "records " + name,
                ),
                kind="stat",
            ),
            panel(
                "Machines",
                "In the log of answers: known, with an open alarm, with features older than "
                "serve.max_age_hours. Nothing while the log cannot be read.",
                ("max by (state) (beatline_machines)", "{{state}}"),
            ),
            panel(
                "Age of machines' features",
                "Of the newest and the oldest, by the log of answers.",
                ("time() - max by (of) (beatline_machine_features_timestamp_seconds)", "{{of}}"),
                unit="s",
            ),
            panel(
                "Age of features from the store",
                "Median and p95 when they were asked for.",
                (quantile(0.5, "features_age_seconds", "table", "", "1h"), "p50 {{table}}"),
                (quantile(0.95, "features_age_seconds", "table", "", "1h"), "p95 {{table}}"),
                unit="s",
            ),
        ],
    )


def main() -> None:
    for made in (service(), models()):
        path = FOLDER / f"{made['uid'].removeprefix('beatline-')}.json"
        path.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
