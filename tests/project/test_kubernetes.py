"""deploy/kubernetes, without a cluster: rendered as `kubectl apply -k` renders it, held to the schemas of
Kubernetes, and compared with the images and with the service that runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from beatline.cli import COMMANDS
from beatline.common import params
from beatline.monitoring import states
from beatline.serving import hosts, tokens
from beatline.serving.settings import Serve
from tests.paths import ROOT
from tests.project.test_containers import BIN, SERVICES, last, values
from tests.serving import project

FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu")
SCHEMAS = "1.37"
KUBECTL = shutil.which("kubectl", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
if KUBECTL is None:
    pytest.skip("kubectl is not here: requirements-dev.txt has it", allow_module_level=True)
Manifest = dict[str, Any]
SECRET = {
    "token-sha256",
    "log",
    "mlflow",
}  # what docs/kubernetes.md has put into the Secret `beatline`
NOT_IN_COMPOSE = {"beatline-retraining": "retraining"}  # images, and their targets


@cache
def rendered(overlay: str) -> list[Manifest]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", FOLDER / "overlays" / overlay], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return list(YAML(typ="safe").load_all(done.stdout))


def kserve() -> list[Manifest]:
    text = (FOLDER / "kserve/inferenceservice.yaml").read_text()
    return list(YAML(typ="safe").load_all(text))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    found = [each for each in manifests if each["kind"] == kind]
    assert found, kind
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Names, labels and specifications of the pods that the manifests make."""
    for each in manifests:
        name, spec = f"{each['kind']} {each['metadata']['name']}", each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            template = spec["template"]
            yield name, template["metadata"].get("labels", {}), template["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def api(manifests: list[Manifest]) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    return deployment["spec"]["template"]["spec"]


def everything() -> Iterator[tuple[str, Manifest, Manifest]]:
    for overlay in OVERLAYS:
        for name, labels, spec in pods(rendered(overlay)):
            yield f"{overlay}: {name}", labels, spec
    yield "kserve", {}, predictor()


def predictor() -> Manifest:
    """The predictor of KServe's service as a pod: what is KServe's own is left out."""
    (service,) = of_kind(kserve(), "InferenceService")
    own = {"minReplicas", "maxReplicas"}
    return {name: each for name, each in service["spec"]["predictor"].items() if name not in own}


# ---------------------------------------------------------------- what Kubernetes takes


def validated(manifest: Manifest) -> None:
    """Raises an error for a kind or a key that is not known, and for a value of another type."""
    module = pytest.importorskip("kubernetes_validate", reason="requirements-dev.txt has it")
    module.validate(manifest, SCHEMAS, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_key(overlay: str) -> None:
    """A misspelt one is dropped without a word by some clusters, and refused by others."""
    for manifest in rendered(overlay):
        validated(manifest)
    assert len(rendered(overlay)) >= 15


def test_kserve_is_given_a_pod() -> None:
    validated({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": predictor()})
    for manifest in kserve()[1:]:
        validated(manifest)


@pytest.mark.parametrize("mistake", ["kind", "key", "type"])
def test_the_check_finds_mistakes(mistake: str) -> None:
    """A check of schemas that passes everything would look the same."""
    module = pytest.importorskip("kubernetes_validate")
    (budget,) = of_kind(rendered("cpu"), "PodDisruptionBudget")
    changes = {
        "kind": {"kind": "PodDisruptionBudgets"},
        "key": {"spec": {**budget["spec"], "minAvailble": 1}},
        "type": {"spec": {**budget["spec"], "selector": "api"}},
    }
    with pytest.raises((module.ValidationError, module.SchemaNotFoundError)):
        validated({**budget, **changes[mistake]})


# ---------------------------------------------------------------- what belongs together


def test_probes_and_ports_are_those_of_the_service(tmp_path: Path) -> None:
    """Asked as a kubelet asks, by address: live before there is a model, ready after; under the names of
    the cluster too, and without the token that all else needs."""
    config = of_kind(rendered("cpu"), "ConfigMap")[0]["data"]
    (service,) = of_kind(rendered("cpu"), "Service")
    (container,) = api(rendered("cpu"))["containers"]
    port = values("api", "EXPOSE")[-1]
    assert [str(each["containerPort"]) for each in container["ports"]] == [port]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert {probe["port"] for probe in probes} == {container["ports"][0]["name"]}
    others = [
        predictor()["containers"][0][f"{name}Probe"]["httpGet"]
        for name in ("liveness", "readiness")
    ]
    assert [probe["path"] for probe in others] == [probe["path"] for probe in probes[1:]]
    assert {str(probe["port"]) for probe in others} == {port}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(hosts.VARIABLE, config[hosts.VARIABLE])
        patch.setenv(tokens.VARIABLE, "a-token-of-some-length")
        application = project.app(tmp_path, token="everything")
        with project.serving(application) as url:

            def statuses() -> list[int]:
                return [httpx.get(url + probe["path"]).status_code for probe in probes]

            assert statuses() == [200, 200, 503]
            project.make(tmp_path)
            project.wait_until(lambda: statuses() == [200, 200, 200])
            names = [service["metadata"]["name"], *config[hosts.VARIABLE].split()]
            for name in names:
                answer = httpx.get(f"{url}/models", headers={"Host": name})
                assert answer.status_code == 401, "known by its name, and asked for the token"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_pods(overlay: str) -> None:
    """A budget, a policy or a service that selects nothing is accepted, and does nothing."""
    manifests = rendered(overlay)
    labels = [each for _, each, _ in pods(manifests)]
    selectors = [
        *(each["spec"]["selector"] for each in of_kind(manifests, "Service")),
        *(
            each["spec"]["selector"]["matchLabels"]
            for each in of_kind(manifests, "PodDisruptionBudget")
        ),
        *(
            each["spec"]["podSelector"].get("matchLabels", {})
            for each in of_kind(manifests, "NetworkPolicy")
        ),
    ]
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    (scaled,) = of_kind(manifests, "HorizontalPodAutoscaler")
    (deployment,) = of_kind(manifests, "Deployment")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaled["spec"]["minReplicas"] == 2 and "replicas" not in deployment["spec"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels[0].items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_open_that_no_policy_names(overlay: str) -> None:
    """Of all pods, both ways; to the service from named namespaces alone, by its port alone."""
    manifests = of_kind(rendered(overlay), "NetworkPolicy")
    closed = [each["spec"] for each in manifests if each["metadata"]["name"] == "nothing-else"]
    assert closed == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    for spec in (each["spec"] for each in manifests):
        for rule in spec.get("ingress", []):
            assert rule["from"] and all(sender != {} for sender in rule["from"])


@pytest.mark.parametrize(
    ("name", "_", "spec"), everything(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_pods_are_confined(name: str, _: Manifest, spec: Manifest) -> None:
    """As in compose.yaml: the user of the images, no rights, a read-only file system with /tmp, limited
    memory, and no credentials of the cluster."""
    (user,) = {values(target, "USER")[-1] for target in ("api", "pipeline")}
    context = spec["securityContext"]
    assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert str(context["fsGroup"]) == user.split(":")[0]
    assert spec["automountServiceAccountToken"] is False
    empty = {each["name"] for each in spec["volumes"] if "emptyDir" in each}
    for container in containers(spec):
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        for amounts in (container["resources"]["requests"], container["resources"]["limits"]):
            assert {"cpu", "memory"} <= amounts.keys()
        assert any(
            mount["mountPath"] == "/tmp" and mount["name"] in empty
            for mount in container["volumeMounts"]
        )


@pytest.mark.parametrize(
    ("name", "_", "spec"), everything(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_pods_refer_to_exists(name: str, _: Manifest, spec: Manifest) -> None:
    """Claims, maps, keys of the Secret, images, folders of these, and commands."""
    manifests = rendered("cpu")
    claims = {each["metadata"]["name"] for each in of_kind(manifests, "PersistentVolumeClaim")}
    volumes = {each["name"]: each for each in spec["volumes"]}
    for volume in volumes.values():
        assert "emptyDir" in volume or volume["persistentVolumeClaim"]["claimName"] in claims
    assert spec["serviceAccountName"] in {
        each["metadata"]["name"] for each in of_kind(manifests, "ServiceAccount")
    }
    for container in containers(spec):
        image = container["image"].rpartition("/")[2].partition(":")[0]
        targets = {
            each.get("image"): each["build"]["target"]
            for each in SERVICES.values()
            if "build" in each
        } | NOT_IN_COMPOSE
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes
            if image in targets and mount["mountPath"] != "/tmp":
                assert mount["mountPath"].startswith(values(targets[image], "WORKDIR")[-1])
        assert image in targets
        keys = [each.get("valueFrom", {}).get("secretKeyRef") for each in container.get("env", [])]
        assert all(key["name"] == "beatline" and key["key"] in SECRET for key in keys if key)
        maps = {each["metadata"]["name"] for each in of_kind(manifests, "ConfigMap")}
        assert all(each["configMapRef"]["name"] in maps for each in container.get("envFrom", []))
        words = [*container.get("command", []), *container.get("args", [])]
        if words[:3] == ["python", "-m", "beatline"]:
            assert words[3] in COMMANDS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_has_begun_is_finished(overlay: str) -> None:
    """A pod that ends has time for the answers that are under way, after it is out of the addresses; a
    node that is emptied leaves one that answers."""
    spec = api(rendered(overlay))
    serve = params.block(params.load(ROOT / "params.yaml"), "serve", Serve)
    (container,) = spec["containers"]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > asleep + serve.seconds_to_answer
    assert predictor()["terminationGracePeriodSeconds"] > serve.seconds_to_answer
    (budget,) = of_kind(rendered(overlay), "PodDisruptionBudget")
    (deployment,) = of_kind(rendered(overlay), "Deployment")
    assert budget["spec"]["minAvailable"] == 1
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_service_reads_what_the_pipeline_writes() -> None:
    """One folder of one volume; the service cannot write there."""
    (job,) = of_kind(rendered("cpu"), "Job")
    written = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    read = api(rendered("cpu"))["containers"][0]["volumeMounts"]
    (data,) = [each for each in read if each["mountPath"] == "/beatline/data"]
    assert data["readOnly"] is True
    assert {name: each for name, each in data.items() if name != "readOnly"} in written


@pytest.mark.parametrize("reader", ["api", "kserve"])
def test_the_service_sees_what_watches_it_has_found(reader: str) -> None:
    """Checks for drift, and retrainings, which are begun in a clone of their own: the same folders of the
    volume, which the service only reads."""
    jobs = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("cpu"), "CronJob")}
    pods_of = {name: spec["jobTemplate"]["spec"]["template"]["spec"] for name, spec in jobs.items()}
    read = api(rendered("cpu")) if reader == "api" else predictor()
    for job, state in (("drift", states.FOLDER), ("retrain", states.RETRAINING)):
        image = NOT_IN_COMPOSE["beatline-retraining"] if job == "retrain" else "api"
        written, writable = place(pods_of[job], PurePosixPath(values(image, "WORKDIR")[-1]) / state)
        seen, changeable = place(read, PurePosixPath(values("api", "WORKDIR")[-1]) / state)
        assert written == seen and writable and not changeable


def place(spec: Manifest, path: PurePosixPath) -> tuple[PurePosixPath, bool]:
    """Where in the volume a path of a pod is, and whether it is written there."""
    mounts = spec["containers"][0]["volumeMounts"]
    mount = max(
        (each for each in mounts if path.is_relative_to(each["mountPath"])),
        key=lambda each: len(each["mountPath"]),
    )
    assert mount["name"] == "data"
    inside = PurePosixPath(mount["subPath"]) / path.relative_to(mount["mountPath"])
    return inside, not mount.get("readOnly", False)


def test_a_new_volume_is_prepared(tmp_path: Path) -> None:
    """As the image's own folder is: the link dvc.lock leads to a lock without stages, and one that is
    there is left as it is."""
    (job,) = of_kind(rendered("cpu"), "Job")
    (prepare,) = job["spec"]["template"]["spec"]["initContainers"]
    lock = tmp_path / "data/.cache/dvc.lock"
    assert str(lock.relative_to(tmp_path)) in " ".join(values("pipeline", "RUN"))
    for content in ('schema: "2.0"\n', "mine\n"):
        subprocess.run([*prepare["command"], *prepare["args"]], cwd=tmp_path, check=True)
        assert lock.read_text() == content
        lock.write_text("mine\n")
    assert last("pipeline", "ENTRYPOINT")[-1] == "data"


@pytest.mark.parametrize(
    ("rank", "training", "command"),
    [
        ("0", "", "-m beatline repro"),
        ("0", "cnn ptbxl", "-m beatline repro --single-item train_cnn@ptbxl"),
        ("1", "cnn ptbxl", "-m stages.train cnn ptbxl"),
    ],
)
def test_pod_0_is_the_stage_and_others_run_beside_it(
    rank: str, training: str, command: str, tmp_path: Path
) -> None:
    """The whole pipeline without a training; DVC runs one in a single pod, whose outputs it keeps."""
    (job,) = of_kind(rendered("gpu"), "Job")
    with pod(job, tmp_path, 'echo "$@"', RANK=rank, TRAINING=training) as process:
        assert process.communicate()[0] == f"{command}\n"


@contextmanager
def pod(
    job: Manifest, folder: Path, script: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The container of a pod of a job in the folder of its volume, with the image's entry point unless it
    has another, where `python` is a script."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    (folder / "data").mkdir(exist_ok=True)
    entry = container.get("command") or last("pipeline", "ENTRYPOINT")
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*entry, *container["args"]],
        cwd=folder,
        env=path | environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_pods_of_a_training_run_at_once(tmp_path: Path) -> None:
    """Pod 0 waits for the others, which must not wait for it; a second pipeline does."""
    (job,) = of_kind(rendered("gpu"), "Job")
    meet = 'touch "$RANK"; while [ ! -e 1 ]; do sleep 0.05; done; while [ ! -e go ]; do sleep 0.05; done'
    about = {"TRAINING": "cnn ptbxl", "WORLD_SIZE": "2"}
    with pod(job, tmp_path, meet, RANK="0", **about) as first:
        project.wait_until(lambda: (tmp_path / "0").exists())
        locked = ["flock", "--nonblock", "data", "true"]
        assert subprocess.run(locked, cwd=tmp_path).returncode != 0
        with pod(job, tmp_path, meet, RANK="1", **about) as second:
            project.wait_until(lambda: (tmp_path / "1").exists())
            (tmp_path / "go").touch()
            assert first.wait(20) == second.wait(20) == 0


def test_a_training_on_gpus_knows_its_place() -> None:
    """Pods find the first of them by the name that the headless service gives it, and each its number."""
    (job,) = of_kind(rendered("gpu"), "Job")
    spec = job["spec"]["template"]["spec"]
    environment = {each["name"]: each for each in spec["containers"][0]["env"]}
    host, _, subdomain = environment["MASTER_ADDR"]["value"].partition(".")
    (headless,) = [
        each
        for each in of_kind(rendered("gpu"), "Service")
        if each["spec"].get("clusterIP") == "None"
    ]
    assert host == f"{job['metadata']['name']}-0"
    assert subdomain == spec["subdomain"] == headless["metadata"]["name"]
    assert int(environment["MASTER_PORT"]["value"]) == headless["spec"]["ports"][0]["port"]
    assert "job-completion-index" in str(environment["RANK"]["valueFrom"])
    assert job["spec"]["completionMode"] == "Indexed"
    assert int(environment["WORLD_SIZE"]["value"]) == job["spec"]["completions"]
    assert job["spec"]["parallelism"] == job["spec"]["completions"], "they wait for each other"
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert not [
        each for each in containers(api(rendered("gpu"))) if "gpu" in str(each["resources"])
    ]
