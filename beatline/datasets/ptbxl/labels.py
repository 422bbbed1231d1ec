"""SCP-ECG statements to diagnostic superclasses, as PTB-XL's authors define them."""

from __future__ import annotations

import ast
import io
from collections import Counter
from dataclasses import dataclass

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
NORMAL = "NORM"


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


def superclasses(
    rows: pd.DataFrame, statements: str, classes: list[str], min_likelihood: float
) -> pd.DataFrame:
    """0/1 columns for `classes` and `normal` (no other superclass than NORM), one row per record.

    A record is of a class if any of its `scp_codes` with at least `min_likelihood` percent is a
    diagnostic statement (`diagnostic == 1`) of that `diagnostic_class` in the text of
    scp_statements.csv. Raises UserError for a class that the table does not know, a code that it
    does not hold, or scp_codes that are no dictionary.
    """
    table = _read_table(
        statements, "scp_statements.csv", ("diagnostic", "diagnostic_class"), index_col=0
    )
    diagnostic = {
        str(code): str(superclass)
        for code, flag, superclass in zip(
            table.index, table["diagnostic"], table["diagnostic_class"], strict=True
        )
        if flag == 1 and not pd.isna(superclass)
    }
    known = sorted(set(diagnostic.values()))
    if wrong := [name for name in classes if name not in known]:
        raise UserError(
            f"aggregate_labels.classes: {wrong[0]!r} is no diagnostic class"
            f"{names_there_are(wrong[0], known)}"
        )
    per_record = [
        _classes_of(codes, ecg_id, diagnostic, set(table.index), min_likelihood)
        for codes, ecg_id in zip(rows["scp_codes"], rows["ecg_id"], strict=True)
    ]
    columns = {name: [int(name in present) for present in per_record] for name in classes}
    columns["normal"] = [int(present == {NORMAL}) for present in per_record]
    return pd.DataFrame(columns, index=rows.index)


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


def _classes_of(
    codes: str, ecg_id: int, diagnostic: dict[str, str], known: set[str], min_likelihood: float
) -> set[str]:
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
            f"not in scp_statements.csv: complete that table or remove the row"
        )
    return {
        diagnostic[code]
        for code, likelihood in likelihoods.items()
        if code in diagnostic and likelihood >= min_likelihood
    }


def _read_table(
    text: str, where: str, columns: tuple[str, ...], index_col: int | None = None
) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.StringIO(text), index_col=index_col)
    except ValueError as error:
        raise UserError(f"{where} is not a CSV table ({error}): replace it") from None
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{where} has no column {missing[0]}: give the official table")
    return table
