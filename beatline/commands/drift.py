"""Tell whether what a model is asked still is as its validation records were.

The answers in the service's log are compared, or recordings in files. Exit status: 0 if no drift was
found, 1 if there is drift, or if metrics are worse by what experts have said, 2 if there are too few
records to tell, 3 for any error, so that none is taken for drift. Without a model, all of params.yaml
that the log has answers of are checked, the worst first.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np

from beatline.bundle.model_info import DESCRIPTION, WEIGHTS_SHA256, find, read_model_info
from beatline.commands import ERRORS
from beatline.common import params, sums
from beatline.common.errors import UserError, reporting_mistakes, warn
from beatline.common.files import read_json
from beatline.evaluation import predictions
from beatline.evaluation.estimates import Evaluate
from beatline.evaluation.predictions import Predictions
from beatline.monitoring import database, drift, drift_report, outcomes
from beatline.monitoring.answers import AnswerLog, Window
from beatline.monitoring.drift import Finding, Records, Watched
from beatline.monitoring.outcomes import Outcome
from beatline.monitoring.settings import Monitoring
from beatline.serving.registry import wanted
from beatline.tracking import copies
from beatline.tracking.names import PREDICTIONS

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
STATUS = {"drift": 1, "too few": 2, "none": 0}
ERROR = ERRORS["drift"]
ESTIMATES = "estimates.json"
SHOWN = 5  # features, in the terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the model, the window, and whether a report is written."""
    parser.exit = _exit  # pyright: ignore[reportAttributeAccessIssue]
    parser.add_argument("model", nargs="?", help="such as ptbxl/cnn, or a bundle's folder")
    parser.add_argument("--since", type=_moment, help="a moment, or how long ago: 7d, 12h, 30m")
    parser.add_argument("--until", type=_moment, help="the same, of the window's end")
    parser.add_argument("--last", type=_count, metavar="N", help="the last N answers of these")
    parser.add_argument("--recordings", type=Path, help="a folder, instead of logged answers")
    parser.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"write {drift_report.FOLDER}/<data set>/<model> (default: yes)",
    )


def _exit(status: int = 0, message: str | None = None) -> NoReturn:
    """End as argparse does, but for the status of a mistake, which is that of too few records."""
    if message:
        print(message, end="", file=sys.stderr)
    sys.exit(ERROR if status else 0)


def run(options: argparse.Namespace) -> int:
    """Print what was found; see above for the exit status."""
    try:
        with reporting_mistakes():
            return _run(options)
    except SystemExit as end:
        print(end.code, file=sys.stderr)
    except Exception:  # whatever it is
        traceback.print_exc()
    return ERROR


def _run(options: argparse.Namespace) -> int:
    """Raises UserError if nothing can be checked."""
    settings = params.block(params.load(), "monitoring", Monitoring)
    if options.recordings and not options.model:
        raise UserError("--recordings needs a model: name one, such as ptbxl/cnn")
    if options.recordings and (options.since or options.until or options.last):
        raise UserError("--recordings has no times: leave out --since, --until and --last")
    if options.since and options.until and options.since >= options.until:
        raise UserError("--until is no later than --since, so that there is nothing in between")
    findings = [*_findings(options, settings)]
    for finding in sorted(findings, key=_worst_first):
        print("\n".join(_lines(finding)))
        if options.report:
            print(f"  report: {drift_report.write(Path(), finding)}")
    statuses = {1 if finding.worse else STATUS[finding.verdict] for finding in findings}
    return 1 if 1 in statuses else max(statuses)


def _findings(options: argparse.Namespace, settings: Monitoring) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if options.recordings:
        watched = drift.load(find(options.model))
        yield drift.check(watched, _of_files(options, watched), settings.drift, now)
        return
    with AnswerLog(settings.place(", or check a folder with --recordings")) as log:
        keys = [options.model] if options.model else _logged(log)
        unwatched = []
        for key in keys:
            try:
                folder = _answering(log, key)
                watched = drift.load(folder)
            except UserError as error:
                if options.model:
                    raise
                warn(f"{key} is not checked: {error}")
                unwatched.append(key)
                continue
            tested = _tested(folder, watched)
            yield _of_log(options, settings, log, watched, tested, now)
        if unwatched == keys:
            raise UserError(f"none of {', '.join(keys)} can be checked: see the warnings above")


def _logged(log: AnswerLog) -> list[str]:
    """Return the models of params.yaml that the log has answers of."""
    keys = [key for key in wanted(params.load()) if len(log.window(*key.split("/"), last=1))]
    if not keys:
        raise UserError(
            f"the log of answers ({database.shown(log.engine.url)}) has none of models in params.yaml: "
            f"serve first"
        )
    return keys


def _answering(log: AnswerLog, key: str) -> Path:
    """Return the folder of the bundle of a name that has answered last: the champion of the registry, or
    what the pipeline has made; if it is neither, or `key` is a folder, what it names."""
    champion = copies.place_of(key)
    if not Path(key).is_dir() and (champion / DESCRIPTION).is_file() and key.count("/") == 1:
        newest = log.window(*key.split("/"), last=1)
        if newest.weights == [read_model_info(champion)[WEIGHTS_SHA256]]:
            return champion
    return find(key)


def _of_log(
    options: argparse.Namespace,
    settings: Monitoring,
    log: AnswerLog,
    watched: Watched,
    tested: Predictions | None,
    now: datetime,
) -> Finding:
    """Check the answers of one bundle: those of others of its name have other embeddings and scores."""
    name = (watched.dataset, watched.model)
    times = {"since": options.since, "until": options.until}
    window = log.window(*name, **times, last=options.last, weights=watched.weights)
    records = drift.of_window(window)
    size, expected = records.embeddings.shape[1], watched.reference.embeddings.shape[1]
    if len(records) and size != expected:
        raise UserError(
            f"answers of {watched.dataset}/{watched.model} have embeddings of {size} numbers, its bundle "
            f"of {expected}: another version of the code has logged them; begin later, by --since"
        )
    finding = drift.check(watched, records, settings.drift, now, _period(window))
    finding = replace(finding, outcomes=_outcomes(log, watched, tested, window))
    if left_out := len(window) - len(records):
        note = (
            f"{left_out} of {len(window)} answers are left out: they have no embedding, or scores that "
            f"are not finite"
        )
        finding = replace(finding, notes=[*finding.notes, note])
    if not len(window) and len(log.window(*name, **times, last=1)):
        note = "the log has answers of other weights alone: this bundle has not been served"
        return replace(finding, notes=[note, *finding.notes])
    return finding


def _tested(folder: Path, watched: Watched) -> Predictions | None:
    """Return what a bundle has predicted of the test records: beside a copy from the registry, or in
    data/predictions; None if that is of another bundle, or not here."""
    if (path := folder / PREDICTIONS / ESTIMATES).is_file():
        sums.check(folder)
    elif (path := Path("data/predictions", watched.dataset, watched.model, ESTIMATES)).is_file():
        sums.verified(path)
        sums.verified(path.with_name(predictions.FILE))
    else:
        return None
    if read_json(path)["identity"]["model"] != watched.weights:
        return None
    return predictions.parse(
        path.with_name(predictions.FILE).read_bytes(), watched.model_info, str(path.parent)
    )


def _outcomes(
    log: AnswerLog, watched: Watched, tested: Predictions | None, window: Window
) -> list[Outcome]:
    """Compare what experts have said about a window with the test records. What was measured once counts
    once, as it was labelled last, whichever of its answers that is of."""
    if tested is None or (period := _period(window)) is None:
        return []
    given = [
        each
        for each in log.feedback(watched.dataset)
        if (each.answer.model, each.answer.role) == (watched.model, "champion")
        and each.answer.weights == watched.weights
        and period[0] <= each.answer.moment <= period[1]
    ]
    said = {each.answer.subject: each for each in given}
    parameters = params.block(params.load(), "evaluate", Evaluate)
    return outcomes.compared(watched.model_info, [*said.values()], tested, parameters)


def _period(window: Window) -> tuple[datetime, datetime] | None:
    if not len(window):
        return None
    first, last = (moment.item().replace(tzinfo=UTC) for moment in window.moments[[0, -1]])
    return first, last


def _of_files(options: argparse.Namespace, watched: Watched) -> Records:
    """Read recordings as the service does. Those that cannot be read are told, and left out."""
    from beatline.serving import predictor  # with ONNX Runtime, for recordings alone

    model = predictor.load(options.model)
    examined = model.examine(options.recordings)
    readable = [each for each in examined if not each.error]
    for each in [each for each in examined if each.error][:SHOWN]:
        warn(f"{each.name} is left out: {each.error}")
    if not readable:
        raise UserError(f"{options.recordings}: none of {len(examined)} recordings can be read")
    if len(readable) < len(examined):
        warn(f"{len(examined) - len(readable)} of {len(examined)} recordings are left out")
    scores = np.stack([each.scores for each in readable])
    embeddings = np.stack([each.embedding for each in readable]).astype(np.float32)
    codes = [each.warnings for each in readable]
    return Records(embeddings, scores, model.model.decide(scores), codes)


def _lines(finding: Finding) -> list[str]:
    """Return what a person reads in a terminal."""
    lines = [f"{finding.dataset}/{finding.model}: {drift_report.verdict(finding)}"]
    lines.append(
        f"  {finding.records:,} records against {finding.validation} of validation; the smallest shift "
        f"that they can show: {finding.smallest_shift:.2f} deviations"
    )
    if finding.families:
        each = ", ".join(f"{name} {p:.3g}" for name, p in finding.families.items())
        lines.append(f"  p: {each}")
    columns = sorted(finding.columns, key=lambda column: column.p)
    for column in [each for each in columns if each.p <= finding.level][:SHOWN]:
        lines.append(
            f"  {column.name}: shifted by {column.shift:+.2f} deviations (p {column.p:.2g})"
        )
    shares = [share for share in finding.classes if share.p <= finding.level]
    for share in sorted(shares, key=lambda share: share.p)[:SHOWN]:
        lines.append(
            f"  {share.name}: {share.window:.1%} instead of {share.reference:.1%} (p {share.p:.2g})"
        )
    return [*lines, *(f"  note: {note}" for note in finding.notes)]


def _worst_first(finding: Finding) -> tuple[float, str, str]:
    p = 2.0 if finding.p is None else finding.p
    return p, finding.dataset, finding.model


def _moment(given: str) -> datetime:
    """Return a moment in UTC, given as ISO 8601 or as how long ago it was."""
    try:
        if match := re.fullmatch(r"(\d{1,6})([mhdw])", given):
            return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):  # the latter: before the year 1
        raise argparse.ArgumentTypeError(
            f"{given!r} is no time: give one such as 2026-03-01, 2026-03-01T12:00, 7d, 12h or 30m"
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _count(given: str) -> int:
    if not given.isdecimal() or not 0 < int(given) < 1 << 31:
        raise argparse.ArgumentTypeError(
            f"{given!r} is no number of answers: give one such as 1000"
        )
    return int(given)
