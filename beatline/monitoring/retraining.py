"""A challenger from what experts have said: a snapshot of recordings, the pipeline on them, and a
comparison with the champion.

All of it happens beside the checkout, in a Git worktree at a commit without a branch. What is left of an
interrupted attempt is thrown away by the next one, which finds trained models in DVC's run cache, the
checkpoint of the training that was interrupted, and its version in the registry. The branch
``retrain/<data set>/<model>/<date>`` is made last: where it is, everything is done. The champion stays
what it is: :mod:`beatline.tracking.promotion` moves it, by the gate."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.repo import Repo
from ruamel.yaml import YAML

from beatline import datasets
from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.files import replacing, sha256, write_json
from beatline.common.sums import SUMS, read_sealed_json
from beatline.comparing import words
from beatline.comparing.comparison import Comparison, compare
from beatline.comparing.differences import Compare
from beatline.comparing.revisions import Revision
from beatline.evaluation.estimates import Evaluate
from beatline.monitoring import cases as labelled
from beatline.monitoring import states
from beatline.monitoring.answers import AnswerLog
from beatline.monitoring.cases import Chosen
from beatline.sources import incoming
from beatline.sources.pack import Pack
from beatline.tracking import champions, measured, promotion, registered, runs
from beatline.tracking.client import MlflowClient
from beatline.tracking.names import CHAMPION
from beatline.tracking.registered import Version

SCRATCH = Path(".dvc/tmp")  # where the cache is: links are cheap
PLACE = SCRATCH / "retraining"
REPORTS = Path("reports/retraining")
AUTHOR = ("-c", "user.name=beatline retrain", "-c", "user.email=beatline@localhost")


@dataclass(frozen=True)
class Outcome:
    """What came of it: the `branch`, the `version` that was registered, what the gate says (`outcome`, in
    a `sentence` for each part of the test records), and how many recordings were `learned` from."""

    key: str
    branch: str
    version: int
    outcome: str
    sentences: Mapping[str, str]
    learned: int
    left_out: Mapping[str, int]
    digest: str
    finished: str


def retrain(
    client: MlflowClient,
    log: AnswerLog,
    key: str,
    *,
    least: int,
    tell: Callable[[str], None] = print,
) -> Outcome | None:
    """Make a challenger of the model `key` (`<data set>/<model>`) in the project in the current folder,
    at its last commit; None if experts have labelled fewer than `least` recordings that it does not know.

    What has been done before with the same recordings is given again. Raises UserError if the project has
    no such model, another retraining is going on, or one of its steps fails.
    """
    dataset, _, model = key.partition("/")
    with _alone():
        _clear()
        copy = _worktree()
        block = _block(copy, dataset, model)
        found = _chosen(log, copy, dataset, block)
        if len(found.feedback) < least:
            tell(
                f"{len(found.feedback)} recordings of {dataset} have feedback and are not learned "
                f"from yet, fewer than monitoring.retrain.records = {least}{_in_words(found.left_out)}"
            )
            _clear()
            return None
        branch, done = _proposal(key, found, _snapshots(copy, dataset))
        if done is not None:
            tell(f"{branch} has been made of these {len(found.feedback)} recordings before")
        outcome = done or _make(client, log, copy, (dataset, model), found, branch, tell)
        _clear()
    state = states.RETRAINING / f"{key}.json"  # for the service's metrics
    state.parent.mkdir(parents=True, exist_ok=True)
    write_json(state, asdict(outcome))
    return outcome


def _make(
    client: MlflowClient,
    log: AnswerLog,
    copy: Path,
    names: tuple[str, str],
    found: Chosen,
    branch: str,
    tell: Callable[[str], None],
) -> Outcome:
    dataset, model = names
    key, block = f"{dataset}/{model}", _block(copy, dataset, model)
    champion, before = _champion(client, key)
    base = _head(copy)
    folder = incoming.FOLDER / dataset / branch.rpartition("/")[2]
    tell(f"{folder}: {len(found.feedback)} recordings{_in_words(found.left_out)}")
    _snapshot(log, copy, folder, found, block)
    # Dated as what it holds: whoever does it again makes the same commit, which bundles name.
    _commit(copy, f"Recordings of {dataset} from production, {folder.name}", found.date)

    tell("dvc repro, with them")
    _run(copy, sys.executable, "-m", "beatline", "repro")
    _run(copy, "dvc", "checkout", f"normalize@{dataset}", f"train_{model}@{dataset}")
    _commit(copy, f"{key} with the recordings from production of {folder.name}")

    with Repo(str(copy)) as repo:
        state = runs.state_of(Revision(repo, _head(copy)), dataset, model)
        settings = {name: state.revision.params[name] for name in ("compare", "evaluate")}
        parameters = params.validated(settings["compare"], "compare", Compare)
        how = params.validated(settings["evaluate"], "evaluate", Evaluate)
        parts = _parts(copy, dataset)
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            folder = Path(scratch)
            own = copy / "data/models" / key
            for side, bundle in ((measured.BEFORE, before), (measured.AFTER, own)):
                measured.measure(bundle, copy, key, parts, folder / side, how)
            stages = state.revision.made(dataset, model)
            label, earlier = f"{key} as committed", Revision(repo, base).made(dataset, model)
            if champion is not None:
                label = champion.label
                earlier = measured.stages_of(client, champion, folder)
            comparisons = {
                part: compare(
                    measured.again(label, key, earlier, folder / measured.BEFORE / part),
                    measured.again("challenger", key, stages, folder / measured.AFTER / part),
                    parameters,
                )
                for part in parts
            }
            if champion is not None:
                run = runs.ensure(client, state)
                measured.keep(client, run.info.run_id, champion, folder)
        version, _, _ = promotion.register(client, state, parameters)
    sentences = {part: words.decision(each)[0] for part, each in comparisons.items()}
    outcome = Outcome(
        key,
        branch,
        version.number,
        promotion.worst([each.outcome for each in comparisons.values()]),
        sentences,
        len(found.feedback),
        found.left_out,
        found.digest,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    _report(copy, outcome, comparisons)
    _commit(copy, f"{version.label} against the champion: {outcome.outcome}")
    _git("branch", branch, _head(copy))
    return outcome


# ---------------------------------------------------------------- the copy


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock that one retraining has; the system lets go of it when its process ends."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with (SCRATCH / "retraining.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another `beatline retrain` is at work here: wait for its end"
            ) from None
        yield


def _worktree() -> Path:
    """Return a worktree at the last commit, with this project's cache, and with the checkpoints of an
    attempt before it."""
    if _git("status", "--porcelain", "--untracked-files=no").strip():
        raise UserError(
            "the checkout has changes that are not committed, which a challenger would not have: "
            "commit or stash them"
        )
    _git("worktree", "add", "--quiet", "--detach", "--force", str(PLACE), "HEAD")
    cache = Path(_run(Path(), "dvc", "cache", "dir").strip()).absolute()
    _run(PLACE, "dvc", "cache", "dir", "--quiet", "--local", str(cache))
    if (kept := SCRATCH / "retraining.checkpoints").exists():
        (PLACE / "data").mkdir(exist_ok=True)
        kept.rename(PLACE / "data/checkpoints")
    return PLACE


def _clear() -> None:
    """Remove the worktree of an attempt, whatever state it is in; its checkpoints are kept until an
    attempt is whole."""
    kept = SCRATCH / "retraining.checkpoints"
    if (checkpoints := PLACE / "data/checkpoints").is_dir() and any(checkpoints.rglob("*.*")):
        shutil.rmtree(kept, ignore_errors=True)
        checkpoints.rename(kept)
    shutil.rmtree(PLACE, ignore_errors=True)
    # Git locks a worktree while it makes it, and lets nobody remove what a killed process has locked.
    subprocess.run(["git", "worktree", "unlock", str(PLACE)], capture_output=True, check=False)
    _git("worktree", "prune")


def _head(copy: Path) -> str:
    return _run(copy, "git", "rev-parse", "HEAD").strip()


def _commit(copy: Path, message: str, date: str | None = None) -> None:
    _run(copy, "git", "add", "--all")
    if _run(copy, "git", "status", "--porcelain").strip():
        dated = {"GIT_AUTHOR_DATE": f"{date}T12:00:00Z", "GIT_COMMITTER_DATE": f"{date}T12:00:00Z"}
        _run(
            copy,
            *("git", *AUTHOR, "commit", "--quiet", "--no-verify", "--message", message),
            environment=dated if date else {},
        )


def _git(*arguments: str) -> str:
    return _run(Path(), "git", *arguments)


def _run(where: Path, *command: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints; what it says on the way is passed on if it is the pipeline. Raises
    UserError if it fails."""
    shown = "beatline" in command
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(((done.stderr or "") or (done.stdout or "")).split())
        raise UserError(
            f"`{' '.join(Path(part).name if part == sys.executable else part for part in command)}` "
            f"failed{f': {reason}' if reason else ''}"
        )
    return done.stdout or ""


# ---------------------------------------------------------------- the recordings


def _block(copy: Path, dataset: str, model: str) -> dict[str, Any]:
    content = params.load(copy / params.PATH)
    if dataset not in content["datasets"] or model not in params.models_of(content, dataset):
        raise UserError(f"{params.PATH} trains no {dataset}/{model}: name a model that it does")
    return content["datasets"][dataset]


def _chosen(log: AnswerLog, copy: Path, dataset: str, block: Mapping[str, Any]) -> Chosen:
    known: set[str] = set()
    for named in block["download"].get("incoming") or []:
        folder = Path(named["folder"])
        if not (copy / folder).is_dir():
            _run(copy, "dvc", "checkout", f"{folder}.dvc")
        cases = pd.read_csv(copy / folder / incoming.CASES, usecols=["answer"], dtype=str)
        known |= {*cases["answer"]}
    description = _description(copy, dataset)
    present = _contents(copy, dataset, block, description)
    return labelled.chosen(log, dataset, description, known, present)


def _contents(
    copy: Path, dataset: str, block: Mapping[str, Any], description: Mapping[str, Any]
) -> set[str]:
    """The content of every recording that the data set has, as the service would keep it."""
    _run(copy, "dvc", "checkout", f"download@{dataset}", f"aggregate_labels@{dataset}")
    records = pd.read_csv(
        copy / "data/labels" / dataset / "labels.csv", usecols=["record"], dtype=str
    )
    names, module = records["record"].to_list(), datasets.module(block["module"])
    with Pack(copy / "data/raw" / f"{dataset}.zip") as pack:
        if (representation := description["representation"]) is not None:
            rate, channel = representation["sampling_rate"], representation["channel"]
            waveforms = module.read_waveforms(pack, names, rate, channel)
            return {labelled.content(waveform[:, None]) for waveform in waveforms}
        batches = module.read_recordings(pack, names)
        return {labelled.content(recording) for batch in batches for recording in batch}


def _description(copy: Path, dataset: str) -> dict[str, Any]:
    """What the data set is: what networks learn of it, with the length of a recording."""
    path = copy / "data/normalized" / dataset / "dataset.json"
    if not path.exists():
        _run(copy, "dvc", "checkout", f"normalize@{dataset}")
    return read_sealed_json(path)


def _snapshots(copy: Path, dataset: str) -> set[str]:
    """The names of the snapshots that a data set has."""
    return {path.stem for path in (copy / incoming.FOLDER / dataset).glob("*.dvc")}


def _snapshot(
    log: AnswerLog, copy: Path, folder: Path, found: Chosen, block: Mapping[str, Any]
) -> None:
    dataset = folder.parent.name
    description = _description(copy, dataset)
    several = list(labelled.cases(log, found.feedback, description, block))
    blocks = {**block, "channels": description["channels"]}
    with replacing(copy / folder) as beside:
        beside.mkdir()
        records = datasets.module(block["module"]).write(beside, folder.name, several, blocks)
        incoming.write_cases(beside, records, several)
    _run(copy, "dvc", "add", "--quiet", str(folder))
    yaml = YAML()  # which keeps comments where they are
    yaml.width, yaml.preserve_quotes = 200, True
    content = yaml.load(copy / params.PATH)
    download = content["datasets"][dataset]["download"]
    named = {"folder": str(folder), "sha256": sha256(copy / folder / SUMS)}
    download["incoming"] = [*(download.get("incoming") or []), named]
    with replacing(copy / params.PATH) as beside, beside.open("w") as file:
        yaml.dump(content, file)


def _parts(copy: Path, dataset: str) -> dict[str, list[str]]:
    """The names of the test records of before, and of those from production; no part is empty."""
    test = measured.test_records(copy, dataset)
    later = test[incoming.COLUMN].fillna("") != "" if incoming.COLUMN in test else None
    if later is None:
        return {"old": test["record"].to_list()}
    parts = {"old": test.loc[~later, "record"], "new": test.loc[later, "record"]}
    return {name: records.to_list() for name, records in parts.items() if len(records)}


# ---------------------------------------------------------------- what came of it


def _champion(client: MlflowClient, key: str) -> tuple[Version | None, Path]:
    """The champion with its bundle; where there is none, the bundle of this checkout."""
    champion = registered.aliased(client, key)
    if champion is None:
        own = Path("data/models") / key
        if not own.is_dir():
            raise UserError(f"{key} has no champion, and {own} is missing: run `dvc repro` first")
        return None, own
    return champion, champions.copy(client, Path(), champion, CHAMPION)


def _proposal(key: str, found: Chosen, snapshots: set[str]) -> tuple[str, Outcome | None]:
    """The branch of these recordings, and what a retraining with them has left there. It is called after
    the date, numbered where that is the name of a snapshot or of a proposal of other recordings: that is
    somebody's to review as it is."""
    for number in count(1):
        name = found.date if number == 1 else f"{found.date}.{number}"
        branch = f"retrain/{key}/{name}"
        if name in snapshots:
            continue
        places = [f"{place}/{branch}" for place in ("refs/heads", "refs/remotes/*")]
        refs = _git("for-each-ref", "--format=%(refname)", *places).split()
        if not refs:
            return branch, None
        content = _git("show", f"{refs[0]}:{REPORTS / key / name}/outcome.json")
        if (outcome := Outcome(**json.loads(content))).digest == found.digest:
            return branch, outcome
    raise AssertionError("there is always another number")


def _report(copy: Path, outcome: Outcome, comparisons: Mapping[str, Comparison]) -> None:
    """Write what people read of it, beside what the next call reads."""
    folder = copy / REPORTS / outcome.key / outcome.branch.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "outcome.json", asdict(outcome))
    titles = {"old": "On the test records of before", "new": "On the test records from production"}
    lines = [
        f"# {outcome.key} version {outcome.version} against the champion: {outcome.outcome}",
        "",
        f"{outcome.learned} recordings that experts have labelled are new{_in_words(outcome.left_out)}. "
        f"Both models are measured here on the same records, which neither has learned from.",
        "",
    ]
    for part, comparison in comparisons.items():
        lines += [f"## {titles[part]}", "", "```", words.text(comparison), "```", ""]
    (folder / "comparison.md").write_text("\n".join(lines))


def _in_words(left_out: Mapping[str, int]) -> str:
    """How many recordings were left out, and why."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f" (left out: {reasons})" if reasons else ""
