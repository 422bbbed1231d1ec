"""dvc.yaml says what runs when; a module missing there is a stale result that nobody notices."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from beatline import models
from beatline.training.parameters import SHARED, Train
from tests.paths import ROOT

DVC_YAML = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
DATA_STAGES = ("download", "aggregate_labels", "split", "examples", "normalize")


# What a stage imports and dvc.yaml does not name, since it cannot change what the stage writes.
CANNOT_CHANGE_OUTPUTS = {
    "beatline/common/errors.py": "says what is wrong, and then nothing is written",
    "beatline/common/params.py": "refuses parameters or hands them on; DVC watches the values",
    "beatline/common/cluster.py": "calls other machines with the same code, or nobody",
    "beatline/common/versions.py": "says what made a number, as beatline/lineage does",
    "beatline/lineage": "says what made a number, which is left out of what makes a stage run again",
}
# The same for single kinds of stages.
NOT_CALLED = {
    ("aggregate_labels", "beatline/simulators"): "only download makes recordings up",
    ("examples", "beatline/simulators"): "only download makes recordings up",
    ("extract_features", "beatline/simulators"): "only download makes recordings up",
    ("normalize", "beatline/simulators"): "only download makes recordings up",
    (
        "aggregate_labels",
        "beatline/common/parallel.py",
    ): "only simulators work in several processes",
    ("examples", "beatline/common/parallel.py"): "only simulators work in several processes",
    ("normalize", "beatline/common/parallel.py"): "only simulators work in several processes",
    ("evaluate", "beatline/export"): "only train writes a graph",
    ("report", "beatline/sources"): "only data stages fetch and read raw files",
}
# A data stage runs for seconds and writes the same bytes again: it may name a folder generously.
GENEROUS = ("download", "aggregate_labels", "extract_features", "examples", "normalize")


@pytest.fixture(scope="module")
def stages() -> dict[str, set[str]]:
    """The code that each stage names as a dependency, templates filled in."""
    with Repo(str(ROOT)) as repo:
        return {
            stage.addressing: {
                dep.def_path
                for dep in stage.deps
                if dep.def_path.startswith(("beatline", "stages"))
            }
            for stage in repo.index.stages
        }


def test_every_stage_names_the_code_that_can_change_its_outputs(
    stages: dict[str, set[str]],
) -> None:
    """A change re-runs all that it can affect."""
    assert len(stages) > 20
    missing = {
        name: unnamed
        for name, named in stages.items()
        if (unnamed := {path for path in _relevant(name) if not _is_in(path, named)})
    }
    assert not missing


def test_no_stage_names_code_that_it_does_not_import(stages: dict[str, set[str]]) -> None:
    """A change re-runs nothing that it cannot affect: where a training depends on a folder, each
    module of it is one that the training imports."""
    unused: dict[str, set[str]] = {}
    for name, named in stages.items():
        imported = _relevant(name)
        for path in named:
            modules = {path} if path.endswith(".py") else _modules_in(path)
            used = modules & imported
            kind = _kind(name)
            if (not used and kind not in GENEROUS) or (modules - imported and kind == "train"):
                unused.setdefault(name, set()).update({path} if not used else modules - imported)
    assert not unused


def test_report_names_the_files_beside_its_code(stages: dict[str, set[str]]) -> None:
    """No import leads to a card's words or a template, and a changed one must write the report again."""
    rooms = {path.split("/")[1] for path in _relevant("report") if path.count("/") > 1}
    files = {
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for path in (ROOT / "beatline" / room).rglob("*.*")
        if path.suffix not in (".py", ".pyc") and path.is_file()
    }
    assert {"beatline/datasets/ptbxl/card.yaml", "beatline/reporting/templates/data.md.j2"} <= files
    assert {path for path in files if not _is_in(path, stages["report"])} == set()


def test_a_training_depends_on_its_own_model_alone(stages: dict[str, set[str]]) -> None:
    """A changed architecture is trained again, and no other."""
    models = {f"beatline/models/{name}.py" for name in PARAMS["train"]}
    for name, named in stages.items():
        if _kind(name) in ("train", "evaluate"):
            model = name.partition("@")[0].partition("_")[2]
            assert named & models == {f"beatline/models/{model}.py"}
            assert "beatline/models" not in named


def test_exempt_modules_are_imported() -> None:
    """An exemption that nothing needs would hide a dependency of the day after tomorrow."""
    imported = {kind: set() for kind in {kind for kind, _ in NOT_CALLED}}
    everything: set[str] = set()
    for name in _stage_names():
        found = {path.relative_to(ROOT).as_posix() for path in _all_imports(_entry_points(name))}
        everything |= found
        if (kind := _kind(name)) in imported:
            imported[kind] |= found
    for exempt in CANNOT_CHANGE_OUTPUTS:
        assert any(_is_in(path, {exempt}) for path in everything), exempt
    for kind, exempt in NOT_CALLED:
        assert any(_is_in(path, {exempt}) for path in imported[kind]), (kind, exempt)


def test_dvc_yaml_fits_dvcs_own_schema() -> None:
    """A key that DVC does not know is found here and not at a user's."""
    COMPILED_MULTI_STAGE_SCHEMA(DVC_YAML)


def test_every_stage_says_what_it_does() -> None:
    """A reader of dvc.yaml needs no other file to know what happens."""
    for name, stage in DVC_YAML["stages"].items():
        assert stage.get("do", stage).get("desc"), name


def test_every_stage_can_be_taken_from_the_run_cache() -> None:
    """What was trained once on a GPU must not be trained again: no option that forbids the cache."""
    for name, stage in DVC_YAML["stages"].items():
        body = stage.get("do", stage)
        assert not body.get("always_changed"), name
        assert body.get("deps"), name
        for out in body.get("outs", []):
            assert isinstance(out, str), f"{name}: {out} must be a plain cached output"
        for kind in ("metrics", "plots"):
            for out in body.get(kind, []):
                ((path, options),) = out.items()
                assert options.get("cache") is False, f"{name}: {path} belongs in Git"
                assert not options.get("persist"), f"{name}: {path}"


def test_each_model_stage_depends_on_its_own_parameters_only() -> None:
    """Changing one model's hyperparameter on one data set must not retrain another, and what is decided
    for all models retrains those alone that take it from there."""
    for model in PARAMS["train"]:
        schema = getattr(models.module(model), "Train", Train)
        taken = [f"training.{name}" for name in SHARED if name in schema.model_fields]
        shared = taken if len(taken) < len(SHARED) else ["training"]
        named = DVC_YAML["stages"][f"train_{model}"]["do"]["params"]
        assert named == [*shared, f"train.{model}.${{key}}"]


def test_training_does_not_depend_on_the_test_split() -> None:
    """The test set is touched in evaluate alone: the graph itself must show it."""
    for model in PARAMS["train"]:
        for dep in DVC_YAML["stages"][f"train_{model}"]["do"]["deps"]:
            assert not dep.startswith("data/") or dep.endswith(
                ("/dataset.json", "/train", "/validation")
            )


def test_every_stage_of_params_is_in_dvc_yaml(stages: dict[str, set[str]]) -> None:
    """params.yaml is the only list of what runs."""
    wanted = {f"{stage}@{name}" for name in PARAMS["datasets"] for stage in DATA_STAGES}
    wanted |= {f"extract_features@{name}" for name in PARAMS["extract_features"]}
    for model, datasets in PARAMS["train"].items():
        wanted |= {f"{kind}_{model}@{name}" for name in datasets for kind in ("train", "evaluate")}
    assert set(stages) == wanted | {"report"}


def test_every_stage_script_is_a_stage() -> None:
    """The folder listing tells the pipeline."""
    named = {stage.split("_")[0] for stage in DVC_YAML["stages"]}
    scripts = {path.stem.split("_")[0] for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert scripts == named


def _stage_names() -> list[str]:
    with Repo(str(ROOT)) as repo:
        return [stage.addressing for stage in repo.index.stages]


def _kind(stage: str) -> str:
    """The stage's script: `train` of `train_cnn@ptbxl`."""
    script = stage.partition("@")[0]
    kind = script.partition("_")[0]
    return kind if kind in ("train", "evaluate") else script


def _relevant(stage: str) -> set[str]:
    """The files that a stage imports and that can change its outputs, as paths in the project."""
    exempt = {*CANNOT_CHANGE_OUTPUTS, *(path for kind, path in NOT_CALLED if kind == _kind(stage))}
    imported = {path.relative_to(ROOT).as_posix() for path in _all_imports(_entry_points(stage))}
    return {path for path in imported if not _is_in(path, exempt)}


def _is_in(path: str, named: set[str]) -> bool:
    """Whether a file is one of those named, or in one of the folders named."""
    return path in named or any(path.startswith(f"{folder}/") for folder in named)


def _modules_in(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if _has_code(path)
    }


def _entry_points(stage: str) -> set[Path]:
    """The stage's script and the modules that it loads by name."""
    script, _, dataset = stage.partition("@")
    kind, _, model = script.partition("_")
    if kind in ("train", "evaluate"):
        return {ROOT / f"stages/{kind}.py", ROOT / f"beatline/models/{model}.py"}
    entry = {ROOT / f"stages/{script}.py"}
    if script in ("download", "aggregate_labels", "extract_features", "examples", "normalize"):
        module = PARAMS["datasets"][dataset]["module"]
        entry.add(ROOT / f"beatline/datasets/{module}/__init__.py")
    if script == "extract_features":
        kind = PARAMS["extract_features"][dataset]["kind"]
        entry.add(ROOT / f"beatline/features/{kind}/__init__.py")
    return entry


def _all_imports(entry: set[Path]) -> set[Path]:
    """The project's files that are imported, transitively, at the top of a module or inside it."""
    found: set[Path] = set()
    waiting = set(entry)
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= _imports(path) - found
    return {path for path in found if _has_code(path)}


@cache
def _imports(path: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b too
            files |= _file_of(parts[:depth])
    return files


def _file_of(parts: list[str]) -> set[Path]:
    base = ROOT.joinpath(*parts)
    return {path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()}


@cache
def _has_code(path: Path) -> bool:
    """Whether there is anything but a docstring."""
    body = ast.parse(path.read_text()).body
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body
    )


def test_one_experiment_may_begin_where_another_ended(tmp_path: Path) -> None:
    """`dvc exp run -S` writes params.yaml anew and moves comments; lists must survive that twice: a
    comment beside a list ends up where it breaks the file."""
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    lists = list(_lists(PARAMS))
    assert len(lists) > 20
    for value in ("[x]", "[]", "[1,2]"):
        apply_overrides(path, [f"{key}={value}" for key in lists])
        changed = YAML(typ="safe", pure=True).load(path.read_text())
        assert {str(found) for found in _lists(changed).values()} == {str(_parsed(value))}


def _parsed(value: str) -> Any:
    return YAML(typ="safe", pure=True).load(value)


def _lists(content: Any, key: str = "") -> dict[str, list[Any]]:
    """All lists in params.yaml, by their dotted keys."""
    if isinstance(content, list):
        return {key: content}
    found: dict[str, list[Any]] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        found |= _lists(value, f"{key}.{name}" if key else name)
    return found
