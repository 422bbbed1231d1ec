"""Dashboards and alarms: a real Prometheus scrapes a real service, and every expression has data; every
alert fires and clears; dashboards are as Grafana reads them, which cannot be had here."""

from __future__ import annotations

import json
import math
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from beatline.monitoring import drift, drift_report, retraining, states
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.settings import Drift, Monitoring
from beatline.serving import machine_watch, registry, telemetry, tokens, webhook
from beatline.tracking import copies, names
from tests.monitoring import watched
from tests.monitoring.test_machines import said
from tests.paths import ROOT
from tests.project.test_containers import SERVICES
from tests.project.test_docs import _anchors
from tests.serving import project, test_shadow, test_webhook

PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
DASHBOARDS = sorted(GRAFANA.glob("dashboards/*.json"))
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no Prometheus: make prometheus installs it",
)
NAME = re.compile(r"\b(?:beatline[_:][\w:]+|process_\w+|up|ALERTS)\b(?=\s*[\[{)]|\s|$)")
VARIABLES = {"$__rate_interval": "1m", "$route": ".*", "$dataset": ".*", "$model": ".*"}
TOKEN = "a-token-of-some-length"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
DETECTOR = ("ecg5000", "autoencoder")


def _yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def _rules(name: str) -> list[dict[str, Any]]:
    groups = _yaml(PROMETHEUS / name)["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS, RECORDS = _rules("alerts.yml"), _rules("rules.yml")


def _dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _panel_expressions() -> list[tuple[str, str]]:
    """Each panel's title with an expression, whose variables are filled in."""
    found = []
    for path in DASHBOARDS:
        for panel in _dashboard(path)["panels"]:
            for target in panel["targets"]:
                expr = target["expr"]
                for name, text in VARIABLES.items():
                    expr = expr.replace(name, text)
                found.append((panel["title"], expr))
    return found


def _names(expr: str) -> set[str]:
    """The names of metrics in an expression."""
    without_strings = re.sub(r'"[^"]*"', '""', expr)
    return set(NAME.findall(without_strings))


USED = {name for _, expr in _panel_expressions() for name in _names(expr)}
USED |= {name for rule in [*ALERTS, *RECORDS] for name in _names(rule["expr"])}


# ---------------------------------------------------------------- rules and routes


@needs_prometheus
def test_every_alert_fires_and_clears() -> None:
    """`promtool test rules`: each alert has a case in which it is quiet, fires, and is quiet again."""
    command = ["promtool", "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cases: dict[str, list[list[bool]]] = {}
    for case in _yaml(PROMETHEUS / "tests.yml")["tests"]:
        steps = case["promql_expr_test"]
        (name,) = {re.findall(r'alertname="(\w+)"', step["expr"])[0] for step in steps}
        cases.setdefault(name, []).append([bool(step["exp_samples"]) for step in steps])
    for alert in ALERTS:
        fires = [any(case) and not case[0] | case[-1] for case in cases.pop(alert["alert"])]
        assert any(fires), alert["alert"]
    assert not cases, "tests of alerts that there are not"


def test_every_alert_says_what_to_do() -> None:
    """Who is woken by one finds it on the page that it names."""
    page = ROOT / "docs/monitoring.md"
    told = set(re.findall(r"^\| `(Beatline\w+)` \|", page.read_text(), re.MULTILINE))
    assert told == {alert["alert"] for alert in ALERTS}
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning")
        about = alert["annotations"]
        assert about["summary"] and about["description"]
        path, _, anchor = about["runbook"].partition("#")
        assert ROOT / path == page and anchor in _anchors(page)


@pytest.mark.skipif(not shutil.which("amtool"), reason="no amtool: make prometheus installs it")
def test_alerts_reach_people_and_drift_also_retrains() -> None:
    """By Alertmanager's own reading of its configuration. What asks for a retraining names a model."""
    path = PROMETHEUS / "alertmanager.yml"
    subprocess.run(["amtool", "check-config", path], check=True, capture_output=True)
    for alert in ALERTS:
        labels = {"alertname": alert["alert"], **alert["labels"]}
        words = [f"{name}={value}" for name, value in labels.items()]
        command = ["amtool", "config", "routes", "test", f"--config.file={path}", *words]
        reached = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        retrains = alert["alert"] == "BeatlineDrift"
        assert set(reached.strip().split(",")) == (
            {"retrain", "people"} if retrains else {"people"}
        )
        assert ("action" in alert["labels"]) == retrains
        assert not retrains or "by (dataset, model)" in alert["expr"]


# ---------------------------------------------------------------- dashboards


def test_dashboards_are_what_their_script_makes() -> None:
    """A change by hand would be lost with the next change of the script."""
    script = runpy.run_path(str(GRAFANA / "make.py"))
    made = [script["models"](), script["service"]()]
    assert [_dashboard(path) for path in DASHBOARDS] == made


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_as_grafana_reads_it(path: Path) -> None:
    """What Grafana needs of one and of its panels, and what readers need: units, descriptions, legends;
    nothing lies on something else."""
    content = _dashboard(path)
    assert re.fullmatch(r"[\w-]{1,40}", content["uid"]) and content["title"]
    assert content["schemaVersion"] >= 39 and "id" not in content
    chosen = {each["name"] for each in content["templating"]["list"]}
    for variable in content["templating"]["list"]:
        assert variable["type"] == "query" and variable["datasource"] == SOURCE
        assert re.fullmatch(r"label_values\(.+, \w+\)", variable["query"]["query"])
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in ("timeseries", "stat", "bargauge", "table")
        assert panel["description"].endswith(".") and panel["datasource"] == SOURCE
        grid = panel["gridPos"]
        assert grid["x"] >= 0 and grid["x"] + grid["w"] <= 24 and grid["y"] >= 0 < grid["h"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        defaults = panel["fieldConfig"]["defaults"]
        first, *later = [step["value"] for step in defaults["thresholds"]["steps"]]
        assert defaults["unit"] and first is None and later == sorted(later)
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE and target["instant"] != target["range"]
            used = set(re.findall(r"\$(\w+)", target["expr"]))
            assert used <= {*chosen, "__rate_interval"}, target["expr"]
            several = len(panel["targets"]) > 1
            assert target["legendFormat"] or not several
    (times,) = [each for each in panels if each["title"] == "Times"] or [None]
    if times:
        steps = times["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == [None, 0.05]


def test_what_is_provisioned_is_what_dashboards_name() -> None:
    """One data source by its uid, and the folder that the container has."""
    (source,) = _yaml(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    (provider,) = _yaml(GRAFANA / "provisioning/dashboards/beatline.yml")["providers"]
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted
    for service in ("prometheus", "alertmanager", "grafana"):
        for volume in SERVICES[service]["volumes"]:
            path, _, rest = volume.partition(":")
            assert not path.startswith(".") or ((ROOT / path).exists() and rest.endswith(":ro"))
    targets = [source["url"].removeprefix("http://")]
    configuration = _yaml(PROMETHEUS / "prometheus.yml")
    (managers,) = configuration["alerting"]["alertmanagers"]
    targets += managers["static_configs"][0]["targets"]
    job, retrain = configuration["scrape_configs"]
    (called,) = _yaml(PROMETHEUS / "alertmanager.yml")["receivers"][1]["webhook_configs"]
    assert called["url"] == f"http://{retrain['static_configs'][0]['targets'][0]}/retrain"
    targets += job["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in targets} <= set(SERVICES)
    asked = targets[-1].partition(":")[0]  # a name that the service does not know is refused
    assert asked in SERVICES[asked]["environment"]["BEATLINE_HOSTS"].split()


# ---------------------------------------------------------------- a real Prometheus


@dataclass(frozen=True)
class Service:
    client: httpx.Client
    telemetry: telemetry.Telemetry
    retraining: httpx.Client  # where `beatline retrain --listen` answers

    def ask(self) -> None:
        """Let everything be counted that requests change."""
        ecg, beat = project.raw_recordings("ptbxl")[0], project.raw_recordings("ecg5000")[0, :, 0]
        for gain in (1, 100):  # the latter with a warning
            self._predict("/models/ptbxl/cnn/predict", (gain * ecg).tolist())
        self._predict("/models/ecg5000/autoencoder/predict", beat.tolist())
        self._predict("/predict", [[1, 2, None], [0, 0, 0]])
        # As if a feature store were asked; tests/serving/test_machines.py asks a real one.
        self.telemetry.features_read("machine_sound", 100)

    def _predict(self, path: str, sent: Any) -> None:
        self.client.post(path, json=sent, headers={"X-Source": "icu"}).raise_for_status()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with all that it can show: champions and challengers, a log, drift, a retraining."""
    folder = project.make(tmp_path_factory.mktemp("project"))
    for key in project.TRAINED:
        test_shadow.put(folder, key, names.CHAMPION, "1", seed=1, validation=40)
    test_shadow.put(folder, "ptbxl/cnn", names.CHALLENGER, "2", seed=2)
    state = {"asked": time.time(), "reason": None}
    (folder / copies.FOLDER / copies.STATE).write_text(json.dumps(state))
    now = datetime.now(UTC)
    drifted = watched.records("binary", 1.4 * watched.recordings("binary", 80, 11))
    drift_report.write(folder, drift.check(watched.watched("binary"), drifted, Drift(), now))
    outcome = retraining.Outcome(
        *("ptbxl/cnn", "retrain/x", 3, "failed", {}, 41, {}, "a" * 64), now.isoformat()
    )
    path = folder / states.RETRAINING / "ptbxl/cnn.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(outcome)))
    where = str(folder / "answers.db")
    with AnswerLog(where) as log:
        log.write([said("pump", 0, 2, DETECTOR, features={"rms": 1.0}, moment=now)])
    shadow = {"share": 1.0, "processors": 1.0}
    monitoring = Monitoring(log=where, keep_days=30, max_megabytes=100, shadow=shadow)  # type: ignore[arg-type]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(registry.MODELS, registry.FROM_REGISTRY)
        patch.setenv(telemetry.SOURCES, "icu")
        patch.setattr(machine_watch, "SECONDS", 1)
        patch.setenv(tokens.VARIABLE, TOKEN)
        app = project.app(folder, monitoring, token="everything")
        url = stack.enter_context(project.serving(app))
        client = httpx.Client(
            base_url=url, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        stack.enter_context(client)
        project.wait_until(lambda: client.get("/health").status_code == 200)
        fails = webhook.Retrainings([sys.executable, "-c", "raise SystemExit(1)"])
        waiting = project.serving(webhook.create_app(fails, lambda: project.WANTED))
        retraining_client = httpx.Client(
            base_url=stack.enter_context(waiting), headers=client.headers
        )
        stack.enter_context(retraining_client)
        sent = test_webhook.notification("ptbxl/cnn")
        retraining_client.post("/retrain", json=sent).raise_for_status()
        asked = Service(client, app.state.service.telemetry, retraining_client)
        asked.ask()
        project.wait_until(lambda: "beatline_machines{" in client.get("/metrics").text)
        yield asked


@pytest.fixture(scope="module")
def prometheus(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A Prometheus by the shipped configuration, changed in addresses and times alone."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = (PROMETHEUS / "prometheus.yml").read_text()
    for shipped, here in (
        ("api:5000", str(service.client.base_url).removeprefix("http://").rstrip("/")),
        (
            "host.docker.internal:5003",
            str(service.retraining.base_url).removeprefix("http://").rstrip("/"),
        ),
        ("/run/secrets/beatline_token", f"{folder}/token"),
        ("interval: 15s", "interval: 1s"),
        ("alertmanager:9093", "127.0.0.1:9"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "prometheus.yml").write_text(text)
    (folder / "token").write_text(TOKEN)
    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / name, folder)
    subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "data"]
    command = ["prometheus", *options, "--web.listen-address", f"127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def query(prometheus: httpx.Client, expr: str) -> list[float]:
    """The numbers of an expression now; none while Prometheus starts. Raises if it is none."""
    try:
        answer = prometheus.post("/query", data={"query": expr})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, f"{expr}: {answer.text}"
    found = [float(sample["value"][1]) for sample in answer.json()["data"]["result"]]
    return [number for number in found if not math.isnan(number)]


def test_every_metric_that_is_asked_for_is_there(service: Service) -> None:
    """A metric that was renamed leaves no panel empty and no alert silent."""
    project.wait_until(lambda: "_failed{" in service.retraining.get("/metrics").text)
    there = {
        sample.name
        for client in (service.client, service.retraining)
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    recorded = {rule["record"] for rule in RECORDS}
    of_prometheus = {"up", "ALERTS"}
    assert len(USED) > 40
    assert there | recorded | of_prometheus >= USED
    assert recorded <= USED, "recorded for nobody"


@needs_prometheus
@pytest.mark.slow
def test_every_panel_and_rule_has_data(service: Service, prometheus: httpx.Client) -> None:
    """Expressions of dashboards with their variables filled in, what variables may be, recorded and
    asked metrics; every rule is healthy, and the drift that there is fires."""
    expressions = dict.fromkeys([expr for _, expr in _panel_expressions()])
    expressions |= dict.fromkeys(USED)
    end = time.monotonic() + 60
    while empty := [expr for expr in expressions if not query(prometheus, expr)]:
        assert time.monotonic() < end, empty
        expressions = dict.fromkeys(empty)
        service.ask()
        time.sleep(1)
    for path in DASHBOARDS:
        for variable in _dashboard(path)["templating"]["list"]:
            query_text = variable["query"]["query"].replace("$dataset", ".*")
            metric, _, label = query_text.removeprefix("label_values(")[:-1].rpartition(", ")
            values = prometheus.get(f"/label/{label}/values", params={"match[]": metric}).json()
            assert values["data"], query_text
    groups = prometheus.get("/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(rules) == len(ALERTS) + len(RECORDS)
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules.values()} == {("ok", "")}
    assert rules["BeatlineDrift"]["state"] == "firing"
    assert rules["BeatlineChallengerFailed"]["state"] == "firing"
    assert rules["BeatlineRetrainingBroken"]["state"] == "firing"
    for name in ("BeatlineDown", "BeatlineRetrainingAway"):
        assert rules[name]["state"] == "inactive"
