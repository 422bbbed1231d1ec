"""The gate before production: a version becomes champion if it is not worse than the one that is.

The two are compared as two revisions are (:mod:`beatline.comparing`): record by record, from the
predictions that lie beside each version in MLflow, and by the block `compare` of params.yaml. Where the
test records of a candidate are others, it and the champion were both measured on these again, on the old
and the new ones, and it must not be worse on either (:mod:`beatline.monitoring.retraining`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beatline.common.errors import UserError
from beatline.comparing import words
from beatline.comparing.comparison import CANNOT_TELL, FAILED, PASSED, compare
from beatline.comparing.differences import Compare
from beatline.tracking import measured, registered, runs
from beatline.tracking.client import MlflowClient
from beatline.tracking.names import CHALLENGER, GATE, PREFIX
from beatline.tracking.registered import LONGEST, Version

FIRST = "no champion before it, so it was compared with none"
ITSELF = "it is the champion"
CARD_SECTIONS = ("What it is for",)  # of the model card, besides its head and the model's own


@dataclass(frozen=True)
class Judgement:
    """What the gate says of a version: `outcome` passed, failed or cannot tell; why, in a `sentence`;
    whether it `may_move`."""

    outcome: str
    sentence: str
    may_move: bool


def register(
    client: MlflowClient, state: runs.State, parameters: Compare
) -> tuple[Version, bool, Judgement]:
    """Make a version of a state and judge it; the second value tells whether it is new.

    Its run is added if MLflow does not have it yet. Raises UserError if it cannot be.
    """
    run = runs.ensure(client, state)
    tags = {f"{PREFIX}metric.{name}": text for name, text in _metrics(state.about).items()}
    version, is_new = registered.register(client, run.info.run_id, tags, _card(state))
    judgement = judge(client, version, parameters)
    if is_new:
        registered.tag(client, version, GATE, judgement.sentence)
    return version, is_new, judgement


def _metrics(about: Mapping[str, Any]) -> dict[str, str]:
    """Each metric with its interval, for people."""
    return {
        row["metric"]: f"{row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        for row in about["metrics"]
        if None not in (row["value"], row["low"], row["high"])
    }


def _card(state: runs.State) -> str:
    """The parts of the data set's model card that are about this model, or what is known without one."""
    content = state.revision.content(f"reports/cards/{state.dataset}_models.md")
    if content is None:
        return f"# {state.name}\n\n{runs.NOTE[state.simulated]}"
    head, *sections = re.split(r"(?m)^(?=## )", content.decode())
    by_title = {part.removeprefix("## ").partition("\n")[0]: part for part in sections}
    wanted = (*CARD_SECTIONS, state.model.replace("_", r"\_"))
    card = "".join([head, *(by_title[title] for title in wanted if title in by_title)])
    if len(card) <= LONGEST:
        return card
    rest = "\n\n(The whole card is the run's artifact card.md.)"
    return card[: LONGEST - len(rest)].rpartition("\n")[0] + rest


def judge(client: MlflowClient, candidate: Version, parameters: Compare) -> Judgement:
    """Compare a version with the champion, if there is one. Raises UserError if what they were measured
    by is missing or damaged."""
    champion = registered.aliased(client, candidate.key)
    if champion is None:
        return Judgement(PASSED, FIRST, True)
    if champion.number == candidate.number:
        return Judgement(PASSED, ITSELF, True)
    with tempfile.TemporaryDirectory() as folder:
        pairs = measured.beside(client, champion, candidate, Path(folder, "again"))
        if not pairs:
            before, after = (
                measured.of_version(client, version, Path(folder, str(version.number)))
                for version in (champion, candidate)
            )
            pairs = [(before, after)]
        comparisons = [compare(*pair, parameters) for pair in pairs]
        first = "; ".join(words.decision(each)[0] for each in comparisons)
    outcome = worst([each.outcome for each in comparisons])
    tolerated = outcome == CANNOT_TELL and parameters.cannot_tell == "pass"
    return Judgement(
        outcome,
        f"{first} (version {champion.number} → {candidate.number})",
        outcome == PASSED or tolerated,
    )


def worst(outcomes: Sequence[str]) -> str:
    """Return the outcome of several comparisons: failed if one has, passed if all have."""
    return next((each for each in (FAILED, CANNOT_TELL) if each in outcomes), PASSED)


def promote(
    client: MlflowClient, key: str, which: str | int, parameters: Compare
) -> tuple[Version, Judgement]:
    """Make a version the champion if the gate lets it; the judgement says so, and why not otherwise.

    Raises UserError if there is no such version, or it is the champion already.
    """
    try:
        candidate = registered.resolve(client, key, which)
    except UserError:
        if which == CHALLENGER and (present := registered.aliased(client, key)):
            raise UserError(
                f"{key} has no challenger: {present.label} is the champion; train and `beatline register "
                f"{key}` another, or name one by --version"
            ) from None
        raise
    judgement = judge(client, candidate, parameters)
    if judgement.sentence == ITSELF:
        raise UserError(f"{candidate.label} is the champion already: name another by --version")
    if judgement.may_move:
        registered.move_champion(client, candidate, "promotion", judgement.sentence)
    return candidate, judgement


def rollback(client: MlflowClient, key: str) -> Version:
    """Make the version the champion that was so before. Raises UserError if there was none."""
    version = registered.previous_champion(client, key)
    registered.move_champion(client, version, "rollback", "back to the champion before")
    return version
