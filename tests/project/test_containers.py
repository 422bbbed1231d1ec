"""The images and what runs them, without a container engine.

The Dockerfile is read by a small parser that refuses what it does not know, and its commands are run in
an empty folder, in which they find what the image would have and nothing else.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import numpy as np
import pytest
from ruamel.yaml import YAML

from beatline import bundle
from tests.paths import ROOT
from tests.pipeline.clones import Clone, keep_only, make_small
from tests.serving import project

BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
RUN_HERE = {"pip", "python", "dvc", "mkdir", "printf", "ln", "sed"}
OF_THE_IMAGE = {"useradd", "chown"}  # users and owners: what a folder cannot have
PASSED_ON = {"FROM", "LABEL", "ARG", "USER", "EXPOSE"}  # nothing to do for them here
FROM_START_TO_HEALTHY = 60  # seconds, on a busy machine
MODEL = "data/models/ptbxl/cnn"
IMPORTS_ALL = """
import importlib, pkgutil, beatline.formats, beatline.serving
for package in (beatline.serving, beatline.formats):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
"""


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile: `RUN` and what follows."""

    name: str
    value: str


def instructions() -> list[Instruction]:
    """Those of the Dockerfile in order, comments left out and continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", re.sub(r"\n {2,}(?=CMD)", " ", text))
    found = [Instruction(*line.split(None, 1)) for line in joined.splitlines()]
    unknown = {one.name for one in found} - PASSED_ON
    assert unknown <= {"ENV", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD", "HEALTHCHECK"}
    return found


def stage(target: str) -> list[Instruction]:
    """The instructions of a stage after those of the stage that it starts from."""
    found: dict[str, list[Instruction]] = {}
    name = ""
    for one in instructions():
        if one.name == "FROM":
            base, _, name = one.value.partition(" AS ")
            found[name] = list(found.get(base, []))
        found[name].append(one)
    return found[target]


def values(target: str, name: str) -> list[str]:
    return [one.value for one in stage(target) if one.name == name]


def last(target: str, name: str) -> list[str]:
    """The words of the last ENTRYPOINT, CMD or HEALTHCHECK of a stage, in exec form."""
    value = values(target, name)[-1]
    return json.loads(value[value.index("[") :])


def copies(target: str) -> list[tuple[str, PurePosixPath]]:
    """Source and destination of what a stage copies from the project."""
    found = []
    for value in values(target, "COPY"):
        *sources, destination = value.split()
        assert not value.startswith("--") and "*" not in value, f"COPY {value} is not known here"
        for source in sources:
            into = PurePosixPath(destination)
            name = PurePosixPath(source).name
            found.append((source, into / name if destination.endswith("/") else into))
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file or folder out: the last line that matches it, or a folder
    above it, decides. The patterns known here: `*`, a path, and `**/` before a name."""
    result = False
    parents = [str(parent) for parent in (PurePosixPath(path), *PurePosixPath(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        assert re.fullmatch(r"\*|(\*\*/)?[\w./-]+", pattern), f"{pattern} is not known here"
        names = [PurePosixPath(parent).name for parent in parents]
        candidates = names if pattern.startswith("**/") else parents
        # Docker's star matches no slash: of a path it takes the first folder.
        if any(fnmatchcase(each, pattern.removeprefix("**/")) for each in candidates):
            result = not line.startswith("!")
    return result


@dataclass(frozen=True)
class Image:
    """What an image would be, in a folder: its files, the environment of its commands."""

    folder: Path
    target: str
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def build(self, *, install: bool) -> None:
        """Do what the stage says, one instruction after the other. `install`: with pip's, in the
        virtual environment that comes first in PATH."""
        for one in stage(self.target):
            if one.name == "ENV":
                words = (word.partition("=") for word in shlex.split(one.value))
                self.environment.update({name: value for name, _, value in words})
                # Of this machine: a home of its own, and what pip has fetched before.
                self.environment["HOME"] = str(self.folder.parent)
                self.environment.pop("PIP_NO_CACHE_DIR", None)
            elif one.name == "COPY":
                self._copy(one.value)
            elif one.name == "RUN":
                for command in map(str.strip, one.value.split("&&")):
                    self._run(command, install)

    def _copy(self, value: str) -> None:
        for source, destination in copies(self.target):
            if source in value.split():
                to = self.folder / destination
                to.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, to)

    def _run(self, command: str, install: bool) -> None:
        program = command.split()[0]
        assert program in RUN_HERE | OF_THE_IMAGE, f"RUN {command} is not known here"
        if program in RUN_HERE and (install or program != "pip"):
            self.run("sh", "-c", command)


def environment(*programs: Path) -> dict[str, str]:
    """Of an image's commands: the folders of their programs and what pip needs to reach its index."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    cache = {"PIP_CACHE_DIR": str(Path.home() / ".cache/pip")}
    path = os.pathsep.join(map(str, programs))
    return cache | passed | {"PATH": path, "OMP_NUM_THREADS": "1"}


# What stands in the files


def test_compose_follows_the_specification() -> None:
    """A key that Compose does not know, or a value of the wrong type, stops every `docker compose`."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*check, str(ROOT / "compose.yaml")], check=True, capture_output=True)


def test_the_dockerfile_passes_its_linter() -> None:
    """hadolint finds unpinned images, caches left in layers, commands in the wrong form."""
    program = shutil.which("hadolint", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert program, "hadolint is in requirements-dev.txt"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["pipeline", "api", "champions", "feature-server", "mlflow"])
def test_what_is_copied_is_there(target: str) -> None:
    """A source that is missing, or that .dockerignore leaves out, is a build that fails."""
    assert copies(target)
    for source, _ in copies(target):
        assert (ROOT / source).exists() and not ignored(source), source


@pytest.mark.parametrize("path", ["data/models", ".git/config", ".venv/bin/pip", "reports", ".env"])
def test_data_history_and_secrets_stay_out(path: str) -> None:
    """They would make images large, and tell whoever has one what is not theirs."""
    assert ignored(path)
    assert ignored("beatline/models/__pycache__/cnn.pyc")
    assert not ignored("beatline/models/cnn.py")


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    """No service runs as root, writes its image, gains rights or may take all memory."""
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and any(one.startswith("/tmp:") for one in service["tmpfs"])
    ours = "build" in service
    user = values(service["build"]["target"], "USER")[-1] if ours else service["user"]
    assert re.fullmatch(r"(\d+):\1", user) and int(user.split(":")[0]) >= (1000 if ours else 1)
    owners = re.findall(
        r"(?:--uid |uid=|gid=|chown -R )(\d+)", f"{service}{instructions() if ours else ''}"
    )
    assert set(owners) == {user.split(":")[0]}


@pytest.mark.parametrize("name", SERVICES)
def test_only_this_machine_reaches_a_service(name: str) -> None:
    """Whoever opens one to others does so knowingly, behind a proxy. No password stands in the file."""
    service = SERVICES[name]
    here = "127.0.0.1:", "${TLS_ADDRESS:-127.0.0.1}:"
    assert all(each.startswith(here) for each in service.get("ports", []))
    assert not re.search(r"PASSWORD['\"]?: (?!/run/secrets/)", str(service.get("environment", "")))


def test_the_api_waits_reads_and_listens_on_this_machine_only() -> None:
    """It starts when models are there, cannot change them, and no other machine reaches it unasked."""
    api = SERVICES["api"]
    assert api["depends_on"] == {"pipeline": {"condition": "service_completed_successfully"}}
    assert all(volume.endswith(":ro") for volume in api["volumes"])
    port = values("api", "EXPOSE")[-1]
    assert [each.rpartition(":")[2] for each in api["ports"]] == [port]
    assert all(each.startswith("127.0.0.1:") for each in api["ports"])
    assert last("api", "CMD")[-1] == port and f":{port}/health" in last("api", "HEALTHCHECK")[-1]
    answering = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["serve"]
    assert int(api["stop_grace_period"].removesuffix("s")) > answering["seconds_to_answer"]


def test_drift_is_looked_for_in_a_container_of_its_own() -> None:
    """With the packages, the log and the models of the API, which may not write reports."""
    api, drift = SERVICES["api"], SERVICES["drift"]
    assert drift["build"] == api["build"] and drift["command"][:4] == [
        "python",
        "-m",
        "beatline",
        "drift",
    ]
    assert drift["environment"]["BEATLINE_LOG"] == api["environment"]["BEATLINE_LOG"]
    assert drift["volumes"] == [api["volumes"][0], api["volumes"][1].removesuffix(":ro")]
    assert drift["profiles"] and drift["restart"] == "no", "nobody starts it unasked"


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" in SERVICES[name]])
def test_volumes_are_where_the_commands_work(name: str) -> None:
    """A volume at another place than the image's folders would be empty, and what is written, lost."""
    service = SERVICES[name]
    workdir = values(service["build"]["target"], "WORKDIR")[-1]
    made = " ".join(values(service["build"]["target"], "RUN"))
    for volume in service["volumes"]:
        volume_name, path = volume.split(":")[:2]
        assert volume_name in COMPOSE["volumes"]
        folder = PurePosixPath(path).relative_to(workdir)
        assert re.search(rf"mkdir -p (.* )?{folder}\b", made), "its owner would be root"


def test_the_pipeline_installs_what_the_makefile_does() -> None:
    """One set of versions: what is trained in a container is what `make repro` trains."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("$(VENV)/.ready:")[1].split("\n\n")[0].replace("\\\n\t  ", "")
    (torch,) = re.findall(r"^TORCH := (.+)$", makefile, re.M)
    in_the_image = {
        "$(TORCH)": torch,
        "$(if $(TORCH_INDEX_URL),--index-url '$(TORCH_INDEX_URL)')": (
            '${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}'
        ),
        "$(VENV)/": "",
        "$$": "$",
        "--quiet --disable-pip-version-check ": "",
    }
    for ours, theirs in in_the_image.items():
        recipe = recipe.replace(ours, theirs)
    expected = [
        line for line in re.findall(r"@((?:pip|sed) .*)", recipe) if "--editable" not in line
    ]
    assert len(expected) == 3
    runs = [command for run in values("pipeline", "RUN") for command in run.split(" && ")]
    assert [command for command in runs if command.startswith(("pip", "sed"))] == expected
    assert "@beatline repro" in makefile
    assert last("pipeline", "CMD") == ["python", "-m", "beatline", "repro"]


# What the commands do


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Its image, with the packages that these tests run on, few recordings, and without Git."""
    folder = tmp_path_factory.mktemp("pipeline")
    programs = folder / "programs"
    programs.mkdir()
    for name in ("sh", "env", "mkdir", "printf", "ln", "sed", "uname"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, call in (("python", ""), ("dvc", "-m dvc"), ("pip", "-m pip")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        (programs / name).chmod(0o755)
    if flock := shutil.which("flock"):  # of util-linux
        (programs / "flock").symlink_to(flock)
    image = Image(folder / "beatline", "pipeline", environment(programs))
    image.folder.mkdir()
    image.build(install=False)
    image.environment["DVC_SITE_CACHE_DIR"] = str(folder / "dvc")
    small = Clone(image.folder)
    make_small(small)
    keep_only(small, "ecg5000")
    return image


def _repro(image: Image, *options: str) -> set[str]:
    entrypoint = last("pipeline", "ENTRYPOINT")
    command = [*(entrypoint if shutil.which("flock") else []), "dvc", "repro", *options]
    return set(re.findall(r"^Running stage '(.+)':", image.run(*command), re.M))


def test_the_pipeline_trains_once_without_git(pipeline: Image) -> None:
    """The first `docker compose up` trains, the second finds everything in the volume."""
    stages = {"download@ecg5000", "aggregate_labels@ecg5000", "split@ecg5000", "normalize@ecg5000"}
    assert _repro(pipeline, "train_cnn@ecg5000") == stages | {"train_cnn@ecg5000"}
    assert _repro(pipeline, "train_cnn@ecg5000") == set()
    description = json.loads((pipeline.folder / "data/models/ecg5000/cnn/model.json").read_text())
    git = description["identity"]["git"]
    assert git == {"revision": None, "clean": False, "changed": []}
    assert not (pipeline.folder / ".git").exists()


def test_only_the_volumes_are_written(pipeline: Image) -> None:
    """The image is read-only, and what is written beside the volumes would go with its container."""
    _repro(pipeline, "split@ecg5000")
    written = [PurePosixPath(v.split(":")[1]) for v in SERVICES["pipeline"]["volumes"]]
    written += [PurePosixPath(v.split(":")[0]) for v in SERVICES["pipeline"]["tmpfs"]]
    allowed = [
        path.relative_to("/beatline") for path in written if path.is_relative_to("/beatline")
    ]
    before = {PurePosixPath(line) for line in ("dvc.lock", ".dvc/config.local", "constraints.txt")}
    before |= {destination for _, destination in copies("pipeline")}
    ours = {
        *allowed,
        *before,
        PurePosixPath("heartbeats"),
        PurePosixPath("digits"),
    }  # of make_small
    for path in pipeline.folder.rglob("*"):
        relative = PurePosixPath(path.relative_to(pipeline.folder))
        if path.is_file() or path.is_symlink():
            assert ours & {relative, *relative.parents}, relative
    assert (pipeline.folder / "dvc.lock").is_symlink()
    assert "split@ecg5000" in (pipeline.folder / "data/.cache/dvc.lock").read_text()


def test_no_link_leads_out_of_the_volume(pipeline: Image) -> None:
    """The API sees this volume alone: links into a cache elsewhere would lead nowhere."""
    _repro(pipeline, "split@ecg5000")
    assert not [path for path in (pipeline.folder / "data").rglob("*") if path.is_symlink()]
    assert (pipeline.folder / "data/.cache/files").is_dir()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Its image, with the packages that it installs in a new virtual environment, and a model."""
    folder = tmp_path_factory.mktemp("api")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = environment(folder / "venv/bin", Path("/usr/bin"), Path("/bin"))
    image = Image(folder / "beatline", "api", programs)
    image.folder.mkdir()
    image.build(install=True)
    project.save(image.folder / MODEL, "ptbxl/cnn")
    return image


def test_the_api_carries_no_training(api: Image) -> None:
    """Neither torch nor scikit-learn nor DVC: a small part of the size, and as much less to patch.
    Matplotlib is there as a requirement of wfdb, which reads the rare formats; no worker imports it."""
    installed = {line.split("==")[0].lower() for line in api.run("pip", "freeze").splitlines()}
    assert {"fastapi", "onnxruntime", "numpy"} <= installed
    assert not installed & {"torch", "scikit-learn", "dvc"}


def test_the_api_imports_what_is_installed_only(api: Image) -> None:
    """A module that is imported late would fail when somebody sends the first file of its format."""
    api.run("python", "-c", IMPORTS_ALL)


@pytest.fixture
def running(api: Image) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Its command with a free port in place of its own, on this machine only."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = values("api", "EXPOSE")[-1]
    replaced = {own: str(port), "0.0.0.0": "127.0.0.1"}
    command = [replaced.get(word, word) for word in last("api", "CMD")]
    with subprocess.Popen(
        command,
        cwd=api.folder,
        env=api.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process, port
        finally:
            with suppress(ProcessLookupError):  # its workers too, should it have failed to stop
                os.killpg(process.pid, signal.SIGKILL)


def _healthy(api: Image, port: int) -> bool:
    own = values("api", "EXPOSE")[-1]
    check = [word.replace(f":{own}/", f":{port}/") for word in last("api", "HEALTHCHECK")]
    done = subprocess.run(check, cwd=api.folder, env=api.environment, capture_output=True)
    return done.returncode == 0


def test_the_api_becomes_healthy_answers_and_stops_when_asked(
    api: Image, running: tuple[subprocess.Popen[str], int]
) -> None:
    """What `docker compose up`, the health check, a client and `docker compose stop` do with it: with the
    packages of its image alone it answers what torch does, and has every page and file of a page."""
    process, port = running
    assert not _healthy(api, port), "the check passes before anything can answer"
    until = time.monotonic() + FROM_START_TO_HEALTHY
    while not _healthy(api, port):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.2)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        recording = project.raw_recordings("ptbxl")[0]
        content = io.BytesIO()
        np.save(content, recording)
        headers = {"Content-Type": "application/x-npy"}
        answer = client.post(
            "/models/ptbxl/cnn/predict", content=content.getvalue(), headers=headers
        )
        expected = bundle.load(api.folder / MODEL).predict(recording[np.newaxis]).values[0]
        found = list(answer.raise_for_status().json()["probabilities"].values())
        np.testing.assert_allclose(found, expected, atol=1e-5)
        for page in ("/openapi.json", "/models", "/metrics"):
            client.get(page).raise_for_status()
        for page in ("/", "/docs"):
            shown = client.get(page).raise_for_status().text
            for file in re.findall(r'(?:src|href)="([\w./-]+)"', shown):
                client.get(f"/{file.lstrip('/')}").raise_for_status()
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0, printed
