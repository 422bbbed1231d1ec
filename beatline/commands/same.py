"""Check that a refactoring changes no result, and record that nothing need run again.

The small run of small.yaml is made twice beside the checkout: in a copy of a revision, and in a copy of
the workspace, uncommitted changes included, each with its own parameters. Every output of every stage is
compared, except identity (revision, code, machine) and durations.

With --commit the stages whose outputs are the same are recorded in the workspace's dvc.lock, with the
outputs that they have: `dvc repro` then runs none of them. Not recorded is what a small run cannot show:
stages whose parameters or input data have changed too.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage

from beatline.commands import committed, small_run
from beatline.commands.small_run import SCRATCH, shell
from beatline.common import params
from beatline.common.errors import UserError
from beatline.common.files import sha256
from beatline.comparing import outputs
from beatline.comparing.outputs import Comparison, Run, group_of
from beatline.comparing.revisions import where_else
from beatline.lineage.lock import DVC_LOCK, read

WORKSPACE = "the workspace"
RESULTS = ("dvc.lock", "reports/")  # what runs write in Git
SHOWN = 20  # places where outputs differ
TAIL = 20  # lines of a run that failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the base, and whether to record what is the same."""
    parser.add_argument("base", help="commit, branch or tag that the workspace is compared with")
    parser.add_argument(
        "--commit", action="store_true", help="record in dvc.lock the stages that are the same"
    )
    parser.add_argument(
        "--keep", metavar="FOLDER", type=Path, help="leave the results of both runs there"
    )


def run(options: argparse.Namespace) -> int:
    """0 if all is the same (and was recorded, if asked for), 1 otherwise. Raises UserError if one of the
    runs fails or nothing can be recorded."""
    try:
        return 0 if _same(options.base, options.commit, options.keep) else 1
    except DvcException as error:
        raise UserError(f"DVC cannot tell: {' '.join(str(error).split())}") from None


def _same(base: str, commit: bool, keep: Path | None) -> bool:
    revision = _commit_of(base)
    if keep and keep.exists():
        raise UserError(f"{keep} is there already: remove it or name another folder")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="same-", dir=SCRATCH) as scratch:
        folder = Path(scratch)
        locked = _prepared_to_record(folder / "clone", revision, base) if commit else {}
        state = _state_of_workspace()
        small_run.copy_project(folder / "base", revision)
        small_run.copy_project(folder / "workspace")
        before = _small_run(folder / "base", base)
        # What dvc.yaml leaves out of a stage's dependencies may have changed too: what the cache has
        # proves nothing of the workspace.
        after = _small_run(folder / "workspace", WORKSPACE, "--no-run-cache")
        changed = state != _state_of_workspace()
        if keep:
            _keep(keep, before, after)
        comparison = outputs.compare(before, after)
        print(in_words(comparison, base), flush=True)
        if comparison.all_same:
            # For the next time, when this may be the base. Never what differs: it would be taken for
            # the base's own where dvc.yaml leaves out the module that changed.
            shell("dvc", "commit", "--force", "--quiet", where=after.root)
    if not commit:
        return comparison.all_same
    if changed:
        raise UserError(
            "files have changed while the small runs were made: nothing is recorded; run it again"
        )
    return record(comparison.same, locked, base) and comparison.all_same


def _commit_of(name: str) -> str:
    options = ("--verify", "--quiet", "--end-of-options")
    try:
        return shell("git", "rev-parse", *options, f"{name}^{{commit}}").strip()
    except UserError:
        raise UserError(f"there is no commit, branch or tag {name!r}: {where_else()}") from None


def _state_of_workspace() -> dict[str, str]:
    """SHA-256 by path of what Git knows or would know here, results left out."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = shell(*listing).split("\0")[:-1]
    files = [name for name in names if Path(name).is_file() and not name.startswith(RESULTS)]
    return {name: sha256(Path(name)) for name in files}


def _small_run(copy: Path, label: str, *options: str) -> Run:
    """Run the pipeline in a copy of the project, as its own small.yaml says. Raises UserError with the
    end of what it printed if it fails."""
    name = f"{small_run.DEFAULT} of {label}"
    small = small_run.read(copy / small_run.DEFAULT, name)
    small_run.shrink(copy, small, Path(name), f" of {label}")
    command = ["dvc", "repro", *options]
    print(f"{label}: {' '.join(command)}", flush=True)
    log = SCRATCH / f"same-{copy.name}.log"
    last = deque[str](maxlen=TAIL)
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    process = subprocess.Popen(command, cwd=copy, stdout=pipe, stderr=both, text=True)
    with log.open("w") as file, process:
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            last.append(line)
            if step := re.match(r"(?:Running stage|Stage) '([^']+)'(.*)", line):
                cached = ", from the cache" if "cached" in step[2] else ""
                print(f"{label}: {step[1]}{cached}", flush=True)
    if process.returncode:
        raise UserError(
            f"the small run of {label} failed, so that nothing is compared: correct what its last "
            f"lines say (all of them are in {log})\n{''.join(last).rstrip()}"
        )
    return outputs.run_in(copy)


def _keep(folder: Path, base: Run, workspace: Run) -> None:
    for name, run in (("base", base), ("workspace", workspace)):
        (folder / name).mkdir(parents=True)
        for results in ("data", "reports"):
            shutil.copytree(run.root / results, folder / name / results)
        for file in (DVC_LOCK, params.PATH):
            shutil.copy(run.root / file, folder / name / file.name)
    print(f"the results of both runs are in {folder}: base/ and workspace/")


def in_words(comparison: Comparison, base: str) -> str:
    """Return what is the same, what differs and where, in at most some twenty lines."""
    lines = []
    if comparison.same:
        lines.append(f"the same in {base} and in {WORKSPACE}: {', '.join(comparison.same)}")
    for names, label in ((comparison.removed, base), (comparison.added, WORKSPACE)):
        if names:
            lines.append(f"in {label} alone: {', '.join(names)}")
    if comparison.different:
        lines.append(f"different: {', '.join(comparison.different)}")
        each = max(1, SHOWN // len(comparison.different))
        places = [place for group in comparison.different.values() for place in group[:each]]
        lines += [f"  {place}" for place in places[:SHOWN]]
        more = sum(map(len, comparison.different.values())) - len(places[:SHOWN])
        if more:
            lines.append(f"  and {more} more files (--keep FOLDER leaves both runs to look at)")
    if comparison.all_same:
        return "\n".join([*lines, "every output is the same, except identity and durations"])
    return "\n".join([*lines, "not everything is the same"])


# ---------------------------------------------------------------- recording


def _prepared_to_record(clone: Path, revision: str, label: str) -> dict[str, Any]:
    """The stages in dvc.lock of the base; what would be in the way is said before the runs.

    Raises UserError if that dvc.lock does not match the base's code, so that nobody knows what made it,
    or if the workspace's outputs are not what its dvc.lock says.
    """
    small_run.clone_project(clone, revision)
    with Repo(str(clone)) as repo:
        if problems := list(committed.problems(repo)):
            raise UserError(
                f"dvc.lock of {label} does not match its code, so that there is nothing to record: "
                f"name a revision for which `make committed` finds nothing\n"
                f"{committed.in_words(problems)}"
            )
    with Repo() as repo:
        _check_outputs(_locked_stages(repo).values())
    return read(clone)


def _locked_stages(repo: Repo) -> dict[str, PipelineStage]:
    """The stages of dvc.yaml that dvc.lock has too."""
    locked = read(Path())
    stages = (stage for stage in repo.index.stages if isinstance(stage, PipelineStage))
    return {str(stage.name): stage for stage in stages if stage.name in locked}


def _check_outputs(stages: Iterable[PipelineStage]) -> None:
    """Raises UserError if an output of the stages is not what dvc.lock says."""
    for stage in stages:
        for out in stage.outs:
            if not _is_as_locked(out):
                cure = "`dvc checkout`, or `dvc pull` if the cache has it no more,"
                if not out.use_cache:
                    cure = f"`git checkout HEAD -- {out}`"
                raise UserError(
                    f"{out}, an output of {stage.name}, is not what dvc.lock says: nothing is recorded; "
                    f"{cure} brings it back"
                )


def record(groups: Sequence[str], base: dict[str, Any], label: str) -> bool:
    """Record in dvc.lock that the stages of `groups` need not run again. `base`: the stages in dvc.lock
    of the revision with that label. False if some were left out.

    Raises UserError, and records nothing, if an output in the workspace is not that of `base`.
    """
    before = DVC_LOCK.read_text()
    locked = read(Path())
    with Repo() as repo:
        stages = [
            stage
            for name, stage in _locked_stages(repo).items()
            if group_of(name) in groups and any(stage.changed_entries())
        ]
        outs = [out for stage in repo.index.stages for out in stage.outs]
        unproven = {str(s.name): reason for s in stages if (reason := _unproven(s, base, outs))}
        stages = [stage for stage in stages if stage.name not in unproven]
        names = [str(stage.name) for stage in stages]
        if strange := [name for name in names if _outs(locked, name) != _outs(base, name)]:
            raise UserError(
                f"dvc.lock has other outputs of {strange[0]} than in {label}: nothing is recorded; "
                f"`git checkout {label} -- dvc.lock reports` and `dvc checkout` bring those back"
            )
        _check_outputs(stages)
    for name, reason in unproven.items():
        print(f"not recorded: {name}, for {reason}, which a small run says nothing about")
    if names:
        shell("dvc", "commit", "--force", "--quiet", *names)
        recorded = read(Path())
        if changed := [name for name in locked if _outs(locked, name) != _outs(recorded, name)]:
            DVC_LOCK.write_text(before)
            raise UserError(
                f"the outputs of {changed[0]} changed while they were recorded: dvc.lock is as it "
                f"was; run the command again, and nothing beside it"
            )
    print(f"recorded in dvc.lock: {', '.join(names) or 'nothing, it has all of them already'}")
    return not unproven


def _outs(locked: dict[str, Any], stage: str) -> Any:
    return locked.get(stage, {}).get("outs")


def _unproven(stage: PipelineStage, base: dict[str, Any], outs: Sequence[Output]) -> str | None:
    """Say why a stage's whole run is unproven though its small run is the same: small.yaml may
    hide a changed parameter, and the small run has not seen the whole run's input."""
    was = base.get(str(stage.name), {}).get("params", {})
    now = [dep.read_params() for dep in stage.deps if isinstance(dep, ParamsDependency)]
    if changed := leaves(was.values()) ^ leaves(now):
        return f"its parameters have changed ({', '.join(sorted({name for name, *_ in changed}))})"
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency) or not dep.workspace_status():
            continue
        made = [out for out in outs if _overlap(dep.fs_path, out.fs_path)]
        if not dep.hash_info and made and all(map(_is_as_locked, made)):
            continue  # dvc.yaml has named it since
        if made or not _in_git(str(dep)):
            return f"{dep}, which it reads, is not what dvc.lock says"
    return None


def leaves(blocks: Iterable[Any]) -> set[tuple[str, str, int]]:
    """Return every parameter by its own name, its value and how often it stands there: blocks may
    move."""
    counts: Counter[tuple[str, str]] = Counter()

    def look(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inside in value.items():
                look(str(key).rpartition(".")[2], inside)
        else:
            counts[name, json.dumps(value)] += 1

    for block in blocks:
        look("", block)
    return {(*leaf, count) for leaf, count in counts.items()}


def _is_as_locked(out: Output) -> bool:
    return bool(out.hash_info) and not out.workspace_status()


def _overlap(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")


def _in_git(path: str) -> bool:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", path]
    return not Path(path).is_absolute() and bool(shell(*listing))
