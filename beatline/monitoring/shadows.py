"""A champion and its challenger on the same recordings in production: how often they decide otherwise,
and, where experts have said what was true, the metrics of both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beatline.bundle.model_info import DESCRIPTION, FOLDER, WEIGHTS_SHA256, read_model_info
from beatline.common.errors import UserError
from beatline.comparing import words
from beatline.comparing.comparison import compare
from beatline.comparing.differences import Compare
from beatline.evaluation.estimates import Evaluate
from beatline.evaluation.predictions import Predictions
from beatline.monitoring.answers import AnswerLog, Pair
from beatline.monitoring.outcomes import predictions_of
from beatline.tracking import copies, measured
from beatline.tracking.names import CHALLENGER, CHAMPION

SIDES = ("champion", "challenger")


def told(log: AnswerLog, key: str, how: Evaluate, parameters: Compare) -> str:
    """Return, for people, what a comparison of the answers of a model's champion and challenger says.

    Raises UserError if no challenger has answered, or its classes are not those of the champion.
    """
    dataset, _, model = key.partition("/")
    pairs = log.pairs(dataset, model)
    if not pairs:
        raise UserError(
            f"no challenger of {key} has answered beside its champion: set monitoring.shadow, `beatline "
            f"register {key}` one, and serve by --models registry"
        )
    infos = _model_infos(key, pairs[-1].weights)
    shapes = {answer.scores.shape for pair in pairs for answer in (pair.champion, pair.challenger)}
    if len(shapes) > 1 or any(info["classes"] != infos[0]["classes"] for info in infos):
        raise UserError(
            f"the champion and the challenger of {key} do not have the same classes, so that answers "
            f"cannot be compared: use `beatline compare` of the commits that trained them"
        )
    labelled = [pair for pair in pairs if pair.labels is not None]
    lines = [_agreement(key, pairs), f"Experts have labelled {len(labelled)} of these recordings."]
    if labelled:
        lines += ["", _compared(key, infos, labelled, how, parameters)]
    return "\n".join(lines)


def _agreement(key: str, pairs: Sequence[Pair]) -> str:
    scores = [np.stack([getattr(pair, side).scores for pair in pairs]) for side in SIDES]
    decisions = [np.stack([getattr(pair, side).decisions for pair in pairs]) for side in SIDES]
    other = (decisions[0] != decisions[1]).any(axis=1)
    differences = np.abs(scores[1] - scores[0]).max(axis=1)
    median, most = np.quantile(differences, [0.5, 0.95])
    named = [
        f"version {answer.version}" if answer.version else f"weights {answer.weights[:12]}"
        for answer in (pairs[-1].champion, pairs[-1].challenger)
    ]
    return (
        f"{key}, champion {named[0]} and challenger {named[1]}, on {len(pairs):,} recordings: they "
        f"decide otherwise on {other.mean():.1%}; scores differ by {median:.3g} in the middle, and "
        f"by less than {most:.3g} for 95 %."
    )


def _compared(
    key: str,
    infos: Sequence[Mapping[str, Any]],
    pairs: Sequence[Pair],
    how: Evaluate,
    parameters: Compare,
) -> str:
    dataset, _, model = key.partition("/")
    if not infos:
        weights = " and ".join(each[:12] for each in pairs[-1].weights)
        raise UserError(
            f"{key}: none of the bundles with the weights {weights}, which have answered, is in "
            f"{copies.FOLDER} or {FOLDER}: run this where they are served"
        )
    info = infos[0]
    stage = {"params": {"params.yaml": {"evaluate": how.model_dump()}}}
    stages: Mapping[str, Any] = {f"evaluate_{model}@{dataset}": {"cmd": "evaluate", **stage}}
    with tempfile.TemporaryDirectory() as scratch:
        sides = []
        for side in SIDES:
            folder = Path(scratch, side)
            measured.write(folder, _predictions(info, pairs, side), info, how)
            sides.append(measured.again(side, key, stages, folder))
        return words.text(compare(sides[0], sides[1], parameters))


def _predictions(info: Mapping[str, Any], pairs: Sequence[Pair], side: str) -> Predictions:
    """What one of the two has said of labelled recordings."""
    answers = [getattr(pair, side) for pair in pairs]
    return predictions_of(info, answers, [pair.labels or () for pair in pairs])


def _model_infos(key: str, weights: Sequence[str]) -> list[dict[str, Any]]:
    """What is known here of the bundles with these `weights`, of the registry and of the pipeline."""
    places = [copies.place_of(key, alias) for alias in (CHAMPION, CHALLENGER)]
    folders = [path for path in (*places, FOLDER / key) if (path / DESCRIPTION).is_file()]
    infos = {info[WEIGHTS_SHA256]: info for info in map(read_model_info, folders)}
    return [infos[each] for each in weights if each in infos]
