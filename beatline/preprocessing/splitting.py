"""Who is in train, validation and test.

Records of one group (a patient, a machine) are alike; a record-wise random split puts them on both
sides and flatters every score. `iterative-stratification` knows nothing of groups, so groups are
what is stratified here: a group carries every label that any of its records has.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters

SPLITS = ("train", "validation", "test")


class Split(Parameters):
    """`datasets.<data set>.split`.

    `official` takes the publishers' folds; where they have no validation fold, it is taken from
    train, stratified. `stratified` is iterative stratification (Sechidis et al. 2011), first train
    against the rest, then validation against test. `by`: what is drawn as a whole; patients and
    machines are what the labels call a group, and equal records are drawn as one.
    """

    method: Literal["official", "stratified"]
    by: Literal["patient", "machine", "record"]
    train: float = Field(gt=0, lt=1)
    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _shares_make_a_whole(self) -> Split:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train + validation + test must be 1")
        return self


def assign(
    table: pd.DataFrame, classes: list[str], parameters: Split, *, sections: str | None = None
) -> pd.Series:
    """The split of each record: a series of train, validation or test, in the order of `table`.

    Records of each value in the column `sections`, if one is named, are in all splits too, or a
    warning says where they are not; equal records, which have the same text in the column `alike`, if
    there is one, are in one split. Raises UserError if a split would be empty, a class has too few
    records (or patients) to be in all three, train lacks a section, or official folds part equal
    records.

    Records with a date in the column `snapshot`, if there is one, came later: they change nobody's split.
    They are where their patient is, or else where their `fold` says.
    """
    if "snapshot" in table:
        return _with_later(table, classes, parameters, sections)
    section_labels: list[str] = []
    if sections:
        columns = pd.get_dummies(table[sections].astype(str), prefix=sections, dtype=int)
        table, section_labels = pd.concat([table, columns], axis=1), list(columns)
        classes = [*classes, *section_labels]
    if parameters.method == "official":
        split = _official(table, classes, parameters)
    else:
        split = _stratified(table, classes, parameters)
    for name in SPLITS:
        if not (split == name).any():
            raise UserError(f"the {name} split is empty: use more records, or another split.method")
    check_classes(table, section_labels, split)
    return split


def _with_later(
    table: pd.DataFrame, classes: list[str], parameters: Split, sections: str | None
) -> pd.Series:
    later = (table["snapshot"].fillna("") != "").to_numpy()
    split = assign(
        table.loc[~later].drop(columns="snapshot"), classes, parameters, sections=sections
    )
    of_group = dict(zip(table.loc[~later, "group"], split, strict=True))
    groups, folds = table.loc[later, "group"], table.loc[later, "fold"]
    joined = [of_group.get(group, fold) for group, fold in zip(groups, folds, strict=True)]
    return pd.concat([split, pd.Series(joined, groups.index, dtype=object)]).reindex(table.index)


def check_classes(table: pd.DataFrame, classes: list[str], split: pd.Series) -> None:
    """Raise UserError if a class cannot be learned because train has no record of it; warn if it
    cannot be measured because validation or test has none, or none without it."""
    labels = {part: table.loc[(split == part).to_numpy(), classes].to_numpy() for part in SPLITS}
    present = {part: each.any(axis=0) for part, each in labels.items()}
    absent = {part: (each == 0).any(axis=0) for part, each in labels.items()}
    for number, name in enumerate(classes):
        if not present["train"][number]:
            raise UserError(
                f"class {name} has no record in the train split: leave it out of "
                f"aggregate_labels, or use more records"
            )
        for other in ("validation", "test"):
            if not present[other][number]:
                warn(f"class {name} has no record in {other}: it has no score there")
            elif not absent[other][number]:
                warn(f"all records in {other} are of class {name}: it has no AUC there")


def shared_groups(groups: pd.Series, split: pd.Series) -> int:
    """How many groups have records in more than one split: 0, or the scores are flattered."""
    return int(np.count_nonzero(split.groupby(groups.to_numpy()).nunique() > 1))


def class_counts(table: pd.DataFrame, classes: list[str], split: pd.Series) -> pd.DataFrame:
    """Records per split and class, long: columns `split`, `class`, `records`."""
    rows = []
    for name in SPLITS:
        inside = table[classes].to_numpy()[(split == name).to_numpy()]
        totals = inside.sum(axis=0).tolist()
        rows += [(name, label, total) for label, total in zip(classes, totals, strict=True)]
        rows += [(name, "no class", int(np.count_nonzero(inside.sum(axis=1) == 0)))]
        rows += [(name, "all", len(inside))]
    return pd.DataFrame(rows, columns=["split", "class", "records"])


def _official(table: pd.DataFrame, classes: list[str], parameters: Split) -> pd.Series:
    split = pd.Series(
        ["" if pd.isna(fold) else str(fold) for fold in table["fold"]], table.index, dtype=object
    )
    if unknown := set(split) - set(SPLITS):
        raise UserError(
            f"split.method is official, but the publishers give no fold for some records "
            f"(found {sorted(unknown)[0]!r}): set it to stratified"
        )
    if not (split == "validation").any():
        train = np.flatnonzero(split == "train")
        share = parameters.validation / (parameters.train + parameters.validation)
        codes, targets = _units(table.iloc[train], classes, parameters.by)
        chosen = np.isin(codes, _draw(targets, share, parameters.seed))
        split.iloc[train[chosen]] = "validation"
    if "alike" in table and shared_groups(table.loc[:, "alike"], split):
        splits = split.groupby(table["alike"]).nunique()
        raise UserError(
            f"split.method is official, but the folds put record {splits.idxmax()} and a duplicate of "
            f"it into different splits: set it to stratified, or remove the duplicates from the source"
        )
    return split


def _stratified(table: pd.DataFrame, classes: list[str], parameters: Split) -> pd.Series:
    codes, targets = _units(table, classes, parameters.by)
    equal = parameters.by == "record" and "alike" in table
    _require_three(targets[:, :-1], classes, "different record" if equal else parameters.by)

    unit_splits = np.full(len(targets), "train", dtype=object)
    rest = _draw(targets, parameters.validation + parameters.test, parameters.seed)
    share = parameters.test / (parameters.validation + parameters.test)
    is_test = np.zeros(len(rest), dtype=bool)
    is_test[_draw(targets[rest], share, parameters.seed + 1)] = True
    unit_splits[rest] = np.where(is_test, "test", "validation")
    return pd.Series(unit_splits[codes], index=table.index)


def _units(table: pd.DataFrame, classes: list[str], by: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the units that are drawn as a whole, patients or records, equal ones as one: the number
    of each record's unit `[N]`, and the units' targets, a unit having every label that any of its
    records has."""
    record = "alike" if "alike" in table else "record"
    codes, names = pd.factorize(table[record if by == "record" else "group"])
    targets = np.zeros((len(names), len(classes) + 1), dtype=np.int8)
    np.maximum.at(targets, codes, _targets(table, classes))
    return codes, targets


def _targets(table: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """One column per class and one for records without a class, `[N, K + 1]`."""
    labels = table[classes].to_numpy(dtype=np.int8)
    return np.column_stack([labels, labels.sum(axis=1) == 0]).astype(np.int8)


def _require_three(targets: np.ndarray, classes: list[str], unit: str) -> None:
    for name, total in zip(classes, targets.sum(axis=0), strict=True):
        if total < len(SPLITS):
            raise UserError(
                f"class {name} has {total} {unit}{'' if total == 1 else 's'}, too few to be in train, "
                f"validation and test: raise aggregate_labels.min_records to leave it out, or use "
                f"more records"
            )


def _draw(targets: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted positions of a stratified draw of `share` of the rows, never none and never all."""
    if len(targets) < 2:
        raise UserError(f"{len(targets)} records cannot be split in two: use more records")
    # Not above: it brings scikit-learn and SciPy's statistics, 0.7 s that only this stage needs.
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    size = min(max(round(len(targets) * share), 1), len(targets) - 1)
    # Its stub takes the default of test_size, a text, for the only type.
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1,
        test_size=size,  # pyright: ignore[reportArgumentType]
        random_state=seed,
    )
    _, drawn = next(splitter.split(np.zeros(len(targets)), targets))
    if len(drawn) in (0, len(targets)):
        raise UserError(
            f"{len(targets)} records are too few for a stratified split: use more records"
        )
    return np.sort(drawn)
