"""Recordings from the log of answers that experts have labelled, ready to be learned from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from beatline.monitoring.answers import AnswerLog, Feedback, KeptRecording
from beatline.monitoring.rows import ANOMALY, NORMAL
from beatline.preprocessing.splitting import SPLITS
from beatline.sources.incoming import Case, fold_of

AT_ONCE = 200  # recordings that are in memory


@dataclass(frozen=True)
class Chosen:
    """What can be learned of a data set's feedback: the `answers` with `labels`, and how many are
    `left_out` by the reason."""

    feedback: Sequence[Feedback]
    left_out: Mapping[str, int]

    @property
    def digest(self) -> str:
        """A name for these answers with these labels, whoever asks and when."""
        lines = sorted(f"{each.answer.id} {';'.join(each.labels)}" for each in self.feedback)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def date(self) -> str:
        """The day on which the last of them was said, in UTC."""
        return max(each.moment for each in self.feedback).strftime("%Y-%m-%d")


def chosen(
    log: AnswerLog,
    dataset: str,
    description: Mapping[str, Any],
    known: Set[str],
    present: Set[str] = frozenset(),
) -> Chosen:
    """Choose the feedback on a data set whose recordings are kept, in the order of its answers.

    `description`: of the data set (dataset.json); `known`: ids of answers that are in a snapshot already.
    `present`: the :func:`content` of recordings that the data set has, such as test records that somebody
    has sent. One recording that was sent more than once is taken once, as it was labelled last.
    """
    left_out: Counter[str] = Counter()
    taken: dict[str, Feedback] = {}
    given = log.feedback(dataset)
    for several in _slices([each for each in given if each.answer.id not in known], AT_ONCE):
        kept = _recordings(log, several, description)
        for each in several:
            recording = kept.get(each.answer.id)
            reason = _why_not(each, recording, description)
            if reason or recording is None:
                left_out[reason or ""] += 1
                continue
            name = content(recording.samples)
            if name in present:
                left_out["in the data set already"] += 1
                continue
            left_out["sent more than once"] += name in taken
            taken[name] = each  # in the order in which it was said: the last counts
    ordered = sorted(taken.values(), key=lambda each: (each.answer.moment, each.answer.id))
    return Chosen(ordered, dict(+left_out))


def _why_not(
    given: Feedback, recording: KeptRecording | None, description: Mapping[str, Any]
) -> str | None:
    """Why feedback cannot be learned from, None if it can."""
    if recording is None:
        return "no such recording or row is kept"
    if given.answer.role != "champion":
        return "an answer beside the one that was given"
    classes, task = description["classes"], description["task"]
    one_kind = task == "anomaly" or classes == [ANOMALY]
    words = {NORMAL, ANOMALY} if one_kind else set(classes)
    if not set(given.labels) <= words:
        return "labels that are none of the data set's classes"
    if task == "multiclass" and len(given.labels) != 1:
        return "not one class"
    if task == "multilabel" and not given.labels:
        return "no class"
    if description["drawing"] == "spectrogram":
        return None if given.answer.entity else "no machine is named"
    if len(recording.samples) != description["length"]:
        return "of another length"
    if (*recording.channels,) != (*description["channels"],) or any(
        getattr(recording, name) != description[name] for name in ("sampling_rate", "unit")
    ):
        return "of other channels, or another sampling rate or unit"
    return None


def _recordings(
    log: AnswerLog, feedback: Sequence[Feedback], description: Mapping[str, Any]
) -> dict[str, KeptRecording]:
    """The recordings that are kept, by their answers; of rows, which are in the log anyway, these."""
    if description["length"] != 1:
        return log.recordings([each.answer.id for each in feedback])
    columns = description["channels"]
    return {
        each.answer.id: KeptRecording(
            each.answer.id,
            np.array([[row[name] for name in columns]], np.float64),
            columns,
            None,
            description["unit"],
        )
        for each in feedback
        if (row := each.answer.features) is not None and {*row} == {*columns}
    }


def content(samples: np.ndarray) -> str:
    """Return a name for what was recorded, `[T, C]`, whenever it was sent. Samples at the end that are
    all
    missing are none."""
    there = np.flatnonzero(~np.isnan(samples).all(axis=1))
    own = samples[: there[-1] + 1 if len(there) else 0]
    return hashlib.sha256(np.ascontiguousarray(own, np.float32).tobytes()).hexdigest()


def cases(
    log: AnswerLog,
    feedback: Sequence[Feedback],
    description: Mapping[str, Any],
    block: Mapping[str, Any],
) -> Iterator[Case]:
    """Yield the recordings of chosen feedback. `block`: ``datasets.<data set>`` of params.yaml."""
    shares = {split: float(block["split"][split]) for split in SPLITS}
    for several in _slices(feedback, AT_ONCE):
        kept = _recordings(log, several, description)
        for each in several:
            answer, recording = each.answer, kept[each.answer.id]
            # Of machines that are told apart each is in all splits, of patients none.
            group = None if description["sections"] else answer.entity
            fold = fold_of(group or content(recording.samples), shares)
            if description["task"] == "anomaly" and ANOMALY in each.labels:
                fold = "test"
            yield Case(
                answer.id,
                answer.moment.isoformat(),
                answer.entity,
                group,
                each.labels,
                recording.samples,
                recording.sampling_rate,
                fold,
            )


def _slices(items: Sequence[Feedback], size: int) -> Iterator[Sequence[Feedback]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
