"""Every model of every revision and experiment, each result once, and which of them are on the front.

A result is on the Pareto front if no other one that was tested on the same records with the same task
is at least as good and at least as cheap, and better in one of the two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dvc.repo import Repo
from dvc.scm import RevError, SCMError, resolve_rev
from tqdm import tqdm

from beatline.common.errors import UserError
from beatline.comparing.changes import Changes, changes, parameters_of
from beatline.comparing.revisions import REFERENCES, WORKSPACE, Revision

COSTS = ("parameters", "train_seconds", "predict_milliseconds")


@dataclass
class Entry:
    """A model as it came out of one revision, or of several that gave the same predictions.

    `metrics` as the metrics file stores them, by name; `costs` of COSTS, those that are known;
    `parameters` of the training, by dotted keys; `differing`: from what the workspace's model is made of;
    `fronts`: the costs by which it is on a front.
    """

    dataset: str
    model: str
    revisions: list[str]
    simulated: bool
    task: str
    test_records: str
    metrics: dict[str, dict[str, float | None]]
    costs: dict[str, float]
    parameters: dict[str, Any]
    differing: Changes
    fronts: list[str] = field(default_factory=list)

    @property
    def contest(self) -> tuple[str, ...]:
        """The entries that it can be compared with have the same data set, task and test records."""
        anew = self.differing.simulation if self.simulated else ""
        return self.dataset, self.task, self.test_records, anew


@dataclass(frozen=True)
class Leaderboard:
    """`entries`, best first within each data set, and the names of revisions that had `nothing` to
    show: no metrics, or metrics without intervals."""

    entries: list[Entry]
    nothing: list[str]


def collect(repo: Repo, commits: int) -> Leaderboard:
    """Collect entries from the workspace, all experiments, branches and tags, and the last `commits` of
    the branch that is checked out. Raises UserError if none of them has metrics with intervals."""
    workspace = Revision(repo, WORKSPACE)
    collected: dict[tuple[str, str, str], Entry] = {}
    nothing = []
    names, experiments = revisions_of(repo, commits)
    shown = tqdm([WORKSPACE, *names, *experiments], desc="read", mininterval=10, delay=5)
    for name in shown:
        revision = workspace if name == WORKSPACE else Revision(repo, name)
        try:
            entries = _entries(revision, workspace)
        except UserError:  # of a time before this was a project
            entries = {}
        if not entries:
            nothing.append(name)
        for key, entry in entries.items():
            if key not in collected:
                collected[key] = entry
            elif name not in experiments:  # these have every model, and trained one or two of them
                collected[key].revisions += entry.revisions
    if not collected:
        raise UserError(
            "there are no metrics with intervals in the workspace or any revision: run `dvc repro`"
        )
    entries = list(collected.values())
    mark_fronts(entries)
    entries.sort(key=lambda entry: -(entry.metrics["auc"]["value"] or 0))
    order = {name: number for number, name in enumerate(workspace.params["datasets"])}
    entries.sort(key=lambda entry: order.get(entry.dataset, len(order)))
    return Leaderboard(entries, nothing)


def revisions_of(repo: Repo, commits: int) -> tuple[list[str], list[str]]:
    """Names of branches, tags and the last `commits`, and of all experiments, each commit once."""
    scm = repo.scm
    names = [ref.split("/", 2)[2] for ref in scm.iter_refs() if ref.startswith(REFERENCES)]
    heads = sorted(names, key=lambda name: name != _branch(scm))  # what is checked out comes first
    history = [scm.get_rev()]
    while len(history) < commits and (parents := scm.resolve_commit(history[-1]).parents):
        history.append(parents[0])
    by_commit: dict[str, str] = {}
    for name in (*heads, *history[:commits]):
        with suppress(RevError, SCMError):  # a tag may be of something else than a commit
            by_commit.setdefault(resolve_rev(scm, name), name)
    listed = repo.experiments.ls(all_commits=True).values()
    experiments = {rev: name or rev for named in listed for name, rev in named}
    return list(by_commit.values()), list(experiments.values())


def _branch(scm: Any) -> str | None:
    """The branch that is checked out, if any is."""
    try:
        return scm.active_branch()
    except SCMError:
        return None


def _entries(revision: Revision, workspace: Revision) -> dict[tuple[str, str, str], Entry]:
    """Return a revision's entries by data set, model and predictions."""
    entries = {}
    for dataset, model in revision.trained:
        metrics = revision.metrics(dataset, model)
        if metrics is None:
            continue
        about = metrics["about"][0]
        differing = changes(workspace.made(dataset, model), revision.made(dataset, model))
        entries[dataset, model, about["predictions"]] = Entry(
            dataset,
            model,
            [revision.name if revision.name != revision.commit else revision.label],
            metrics["simulated"],
            about["task"],
            about["test_records"],
            {row["metric"]: row for row in metrics["metrics"]},
            {"parameters": about["parameters"], **_durations(revision, dataset, model)},
            _parameters(revision, dataset, model),
            differing,
        )
    return entries


def _parameters(revision: Revision, dataset: str, model: str) -> dict[str, Any]:
    """Return the parameters a model was trained with, by dvc.lock: params.yaml may be ahead of it."""
    name = f"train_{model}@{dataset}"
    return parameters_of({name: revision.stages.get(name, {})})


def _durations(revision: Revision, dataset: str, model: str) -> dict[str, float]:
    """Return the durations that DVC's cache or remote still holds."""
    durations = {}
    for name in ("train", "predict"):
        content = revision.content(f"data/durations/{dataset}/{model}/{name}.json")
        durations |= json.loads(content) if content is not None else {}
    return {cost: durations[cost] for cost in COSTS if cost in durations}


def mark_fronts(entries: Sequence[Entry]) -> None:
    """Note in each entry by which costs it is on the front of its contest."""
    contests: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        contests.setdefault(entry.contest, []).append(entry)
    for rivals in contests.values():
        for cost in COSTS if len(rivals) > 1 else ():  # without a rival there is nothing to win
            points = [
                (entry, (value, entry.costs[cost]))
                for entry in rivals
                if (value := entry.metrics["auc"]["value"]) is not None and cost in entry.costs
            ]
            for entry, point in points:
                if not any(_dominates(other, point) for _, other in points):
                    entry.fronts.append(cost)


def _dominates(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Tell whether a pair of AUC and cost is at least as good as another in both, and better in one."""
    return first[0] >= second[0] and first[1] <= second[1] and first != second
