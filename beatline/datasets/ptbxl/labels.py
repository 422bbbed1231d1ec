"""SCP-ECG statements to the labels of a task, as PTB-XL's authors and its benchmark define them.

Strodthoff et al. 2021, Deep learning for ECG analysis: benchmarks and insights from PTB-XL, IEEE Journal
of Biomedical and Health Informatics 25(5).
"""

from __future__ import annotations

import ast
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from beatline.common.errors import UserError, names_there_are

FOLDS: dict[float, str] = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
COLUMNS = (
    "ecg_id",
    "patient_id",
    "age",
    "sex",
    "scp_codes",
    "strat_fold",
    "filename_lr",
    "filename_hr",
)
FILENAMES = ("filename_lr", "filename_hr")
STATEMENTS = "scp_statements.csv"
NORMAL, SINUS_RHYTHM = "NORM", "SR"
Task = Literal["superclass", "subclass", "diagnostic", "form", "rhythm", "all"]
FLAGS: dict[Task, str] = {  # the column in which a statement of the task has a 1
    **dict.fromkeys(("superclass", "subclass", "diagnostic"), "diagnostic"),
    "form": "form",
    "rhythm": "rhythm",
}
# The column of what the task calls a statement, where not by its code.
SUMMED_UP: dict[Task, str] = {
    "superclass": "diagnostic_class",
    "subclass": "diagnostic_subclass",
}


@dataclass(frozen=True)
class RecordsTable:
    """ptbxl_database.csv. `rows` has its columns and `group` (the patient) and `fold` (the split
    that strat_fold recommends: 1 to 8 train, 9 validation, 10 test). A file name that is not given
    is the empty text."""

    rows: pd.DataFrame

    @classmethod
    def parse(cls, text: str, where: str) -> RecordsTable:
        """Read the table; `where` names it in the message of a UserError."""
        rows = _read_table(text, where, COLUMNS)
        folds = [_fold(number) for number in rows["strat_fold"]]
        for ecg_id, fold in zip(rows["ecg_id"], folds, strict=True):
            if fold is None:
                raise UserError(
                    f"{where}: strat_fold of ecg_id {ecg_id} must be 1 to 10: correct it"
                )
        for name in ("ecg_id", *FILENAMES):
            values = rows[name].dropna().to_list()
            if len(set(values)) < len(values):
                twice = next(value for value, count in Counter(values).items() if count > 1)
                raise UserError(f"{where}: {name} {twice} stands there twice: remove one row")
        group = [
            _group(patient, ecg_id)
            for patient, ecg_id in zip(rows["patient_id"], rows["ecg_id"], strict=True)
        ]
        names = {
            name: ["" if pd.isna(value) else str(value) for value in rows[name]]
            for name in FILENAMES
        }
        return cls(rows.assign(group=group, fold=folds, **names))


def aggregated(
    rows: pd.DataFrame, statements: str, task: Task, classes: list[str], min_likelihood: float
) -> pd.DataFrame:
    """0/1 columns for `classes` (none named: all of the task, sorted as in the benchmark) and `normal`,
    one row per record.

    `statements`: the text of scp_statements.csv. A record is of a class if any of its `scp_codes` is a
    statement of it. Diagnostic statements count from `min_likelihood` percent on; those of form and
    rhythm, to which PTB-XL mostly gives 0, always do where the task is about them. A record is normal if
    NORM is its only superclass and no statement of the task but NORM and SR counts. Raises UserError for
    a class that the task does not know, a code that the table does not hold, or scp_codes that are no
    dictionary.
    """
    columns = {"diagnostic", "diagnostic_class", *_columns(task)}
    table = _read_table(statements, STATEMENTS, sorted(columns), index_col=0)
    named, superclass = _names(table, task), _names(table, "superclass")
    known = sorted(set(named.values()))
    if wrong := [name for name in classes if name not in known]:
        raise UserError(
            f"aggregate_labels.classes: {wrong[0]!r} is no class of the task {task}"
            f"{names_there_are(wrong[0], known)}"
        )
    always = set() if FLAGS.get(task) == "diagnostic" else _described(table, task)
    per_record, normal = [], []
    for text, ecg_id in zip(rows["scp_codes"], rows["ecg_id"], strict=True):
        likelihoods = _likelihoods(text, ecg_id, set(table.index))
        likely = {code for code, value in likelihoods.items() if value >= min_likelihood}
        stated = likely | (likelihoods.keys() & always)
        present = {named[code] for code in stated if code in named}
        diagnosed = {superclass[code] for code in likely if code in superclass}
        per_record.append(present)
        normal.append(int(diagnosed == {NORMAL} and present <= {NORMAL, SINUS_RHYTHM}))
    labels = {name: [int(name in present) for present in per_record] for name in classes or known}
    return pd.DataFrame({**labels, "normal": normal}, index=rows.index)


def snapshot_statements(task: Task, classes: list[str]) -> pd.DataFrame:
    """Return the table by which a snapshot of recordings names the `classes` of the task, each by a
    statement called like it."""
    known: dict[str, object] = {"task": task}
    if task in FLAGS:
        known[FLAGS[task]] = 1.0
    if task in SUMMED_UP:
        known[SUMMED_UP[task]] = classes
    descriptions = [f"{name}, as an expert said" for name in classes]
    return pd.DataFrame({"description": descriptions, **known}, classes)


def _columns(task: Task) -> list[str]:
    if task == "all":
        return ["form", "rhythm"]
    return [FLAGS[task], *([SUMMED_UP[task]] if task in SUMMED_UP else [])]


def _names(table: pd.DataFrame, task: Task) -> dict[str, str]:
    """What the task calls each of its statements, by code."""
    inside = table.loc[table[FLAGS[task]] == 1] if task in FLAGS else table
    names = inside[SUMMED_UP[task]] if task in SUMMED_UP else inside.index
    return {
        str(code): str(name)
        for code, name in zip(inside.index, names, strict=True)
        if not pd.isna(name)
    }


def _described(table: pd.DataFrame, task: Task) -> set[str]:
    """Codes of the statements of form and rhythm that the task is about."""
    flags = ["form", "rhythm"] if task == "all" else [task]
    return {str(code) for code in table.index[(table[flags] == 1).any(axis=1)]}


def _fold(number: float | str) -> str | None:
    """The split that a number of strat_fold stands for."""
    try:
        return FOLDS.get(float(number))
    except ValueError:
        return None


def _group(patient: float | str, ecg_id: int) -> str:
    """The patient's number or name as text; a record of nobody known is its own group."""
    if pd.isna(patient):
        return f"record {ecg_id}"
    if isinstance(patient, float) and patient.is_integer():
        return str(int(patient))
    return str(patient)


def _likelihoods(codes: str, ecg_id: int, known: set[str]) -> dict[str, float]:
    """The likelihood of each statement in a cell of scp_codes, in percent, by its code."""
    try:
        likelihoods = {str(code): float(value) for code, value in ast.literal_eval(codes).items()}
    except (ValueError, SyntaxError, AttributeError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"ptbxl_database.csv: scp_codes of ecg_id {ecg_id} are not a dictionary of codes and "
            f"likelihoods: repair or remove the row"
        ) from None
    if unknown := likelihoods.keys() - known:
        raise UserError(
            f"ptbxl_database.csv: ecg_id {ecg_id} has the statement {sorted(unknown)[0]!r}, which is "
            f"not in {STATEMENTS}: complete that table or remove the row"
        )
    return likelihoods


def _read_table(
    text: str, where: str, columns: Sequence[str], index_col: int | None = None
) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.StringIO(text), index_col=index_col)
    except ValueError as error:
        raise UserError(f"{where} is not a CSV table ({error}): replace it") from None
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{where} has no column {missing[0]}: give the official table")
    return table
