"""What experts say of answers later: which classes were true."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from beatline.common.errors import listed, names_there_are, shown
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.rows import ANOMALY, NORMAL
from beatline.serving import json_text
from beatline.serving.answer_log import using_log
from beatline.serving.model import Model
from beatline.serving.problems import (
    malformed,
    too_large,
    unfit,
    unknown,
)
from beatline.serving.responses import ANSWER_ID

MOST = 1000  # answers of a request
VALUES = 100  # of an answer: its labels, and what is around them
KEYS = ("answer", "labels")
NAMED = 3  # unknown answers in a message


@dataclass(frozen=True)
class Said:
    """What is said of an answer: the names of the classes that are true."""

    answer: str
    labels: list[str]


def read(body: bytes) -> list[Said]:
    """Return what a body in JSON says: an object, or a list of them. Raises Problem if it is none."""
    if json_text.has_more(body, MOST * VALUES):
        raise too_large(
            f"the body has more values than {MOST} answers of {VALUES} labels: send them in parts"
        )
    try:
        content = orjson.loads(body)
    except ValueError as error:
        raise malformed(f"the body is not JSON: {error}") from None
    several = content if isinstance(content, list) else [content]
    if not 0 < len(several) <= MOST:
        raise (too_large if several else unfit)(
            f"the body is about {len(several)} answers: send 1 to {MOST} at once"
        )
    said = [_said(entry, f"entry {number}") for number, entry in enumerate(several, 1)]
    ids = [entry.answer for entry in said]
    if len(set(ids)) < len(ids):
        twice = next(answer for answer in ids if ids.count(answer) > 1)
        raise unfit(f"the answer {twice} is spoken of twice: send what counts")
    return said


def _said(entry: object, where: str) -> Said:
    if not isinstance(entry, dict):
        raise unfit(f"{where} is no object with the keys {' and '.join(KEYS)}: send one")
    if wrong := [key for key in entry if key not in KEYS]:
        word = shown(wrong[0])
        raise unfit(f"{where} has an unknown key {word!r}{names_there_are(word, KEYS)}")
    if missing := [key for key in KEYS if key not in entry]:
        raise unfit(f"{where} lacks {missing[0]}: add it")
    answer, labels = entry["answer"], entry["labels"]
    if not isinstance(answer, str) or not re.fullmatch(ANSWER_ID, answer):
        raise unfit(f"{where}: answer must be the 32 hex digits that the answer came with")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise unfit(f"{where}: labels must be a list of names of classes")
    if len(set(labels)) < len(labels):
        raise unfit(f"{where}: a label is there twice: name each once")
    return Said(answer, labels)


def write(
    said: list[Said], answers: AnswerLog, model_of: Callable[[str, str], Model]
) -> list[dict[str, Any]]:
    """Write what is said of answers in place of what was said before; return it as it is written.

    Raises Problem: 404 if an answer is not in the log, 422 if labels are none of its model's, 503 if the
    log cannot be used; then nothing is written. `model_of` gives the model of a data set and a name.
    """
    moment = datetime.now(UTC)
    with using_log():
        known = answers.answers(entry.answer for entry in said)
        if lost := [entry.answer for entry in said if entry.answer not in known]:
            raise unknown(
                f"there is no answer {listed(lost, NAMED)} in the log: send the id of one that is; one "
                f"just given is there within a second, and old ones are forgotten"
            )
        for entry in said:
            _check(entry, known[entry.answer], model_of)
        answers.say({entry.answer: entry.labels for entry in said}, moment)
    return [{**vars(entry), "moment": moment.isoformat()} for entry in said]


def _check(entry: Said, answer: Answer, model_of: Callable[[str, str], Model]) -> None:
    """Raise Problem unless the labels are such as the answer's model has."""
    model = model_of(answer.dataset, answer.model)
    names = [NORMAL, ANOMALY] if model.detects else model.classes
    where = f"the labels of {entry.answer}"
    if wrong := [label for label in entry.labels if label not in names]:
        word = shown(wrong[0])
        raise unfit(f"{where}: there is no class {word!r}{names_there_are(word, names)}")
    exclusive = model.detects or model.task == "multiclass"
    if exclusive and len(entry.labels) != 1:
        raise unfit(f"{where} must be one of {listed(names)}, not {len(entry.labels)}")
