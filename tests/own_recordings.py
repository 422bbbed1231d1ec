"""The real records of PTB-XL as somebody who has never heard of it keeps them: files of three formats and
a table of his own."""

from __future__ import annotations

import ast
import shutil
from functools import cache
from pathlib import Path

import edfio
import numpy as np
import pandas as pd
import pytest

from beatline.formats.leads import LEADS, PRINTED
from beatline.formats.wfdb import read_records
from tests.paths import REAL_DATA

PTBXL = REAL_DATA / "ptbxl"
real_ecgs = pytest.mark.skipif(not PTBXL.is_dir(), reason=f"no real ECGs at {PTBXL}")
EDF_STEP = 0.001  # mV, as PTB-XL's own
EDF_RANGE = (-32.768, 32.767)  # mV, of 16 bits with that step


class Folder:
    """Files of a folder, as the reader of WFDB records takes them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __contains__(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> memoryview:
        return memoryview((self.path / name).read_bytes())


@cache
def real() -> tuple[pd.DataFrame, np.ndarray]:
    """PTB-XL's table of the 400 records, and their samples `[400, 1000, 12]` in mV."""
    table = pd.read_csv(PTBXL / "ptbxl_database.csv")
    read = read_records(Folder(PTBXL), table["filename_lr"].to_list(), leads=LEADS, unit="mV")
    return table, np.concatenate(list(read))


def write_thirds(folder: Path, records: int = 400) -> pd.DataFrame:
    """Write the first `records` below `folder`, in turn as WFDB, CSV and EDF, and `my_ecgs.csv`, in which
    diagnoses stand in one column; return that table."""
    table, samples = real()
    rows = []
    (folder / "traces").mkdir(parents=True)
    for number, ecg in enumerate(samples[:records]):
        row = table.iloc[number]
        name = f"traces/{row['ecg_id']:05d}"
        suffix = (".hea", ".csv", ".edf")[number % 3]
        write_ecg(folder / f"{name}{suffix}", ecg, PTBXL / row["filename_lr"])
        codes = ast.literal_eval(row["scp_codes"])
        rows.append(
            {
                "recording": f"{name}{suffix}",
                "hospital_number": f"P{row['patient_id']:.0f}",
                "diagnosis": "normal" if "NORM" in codes else "abnormal",
                "age": row["age"],
                "sex": "female" if row["sex"] else "male",
                "sampling_rate": 100,
                "unit": "mV",
            }
        )
    own = pd.DataFrame(rows).rename(columns={"hospital_number": "patient"})
    own.to_csv(folder / "my_ecgs.csv", index=False)
    return own


def write_ecg(path: Path, ecg: np.ndarray, original: Path) -> None:
    """Write an ECG `[T, 12]` in mV at 100 Hz in the format of the path's ending; a WFDB record is a
    copy of the `original`."""
    if path.suffix == ".hea":
        shutil.copy(original.with_suffix(".dat"), path.parent)
        shutil.copy(original.with_suffix(".hea"), path)
    elif path.suffix == ".csv":
        pd.DataFrame(ecg, columns=list(PRINTED)).to_csv(path, index=False, float_format="%.4f")
    else:
        signals = [
            edfio.EdfSignal(
                lead.astype(np.float64),
                100,
                label=name,
                physical_dimension="mV",
                physical_range=EDF_RANGE,
            )
            for lead, name in zip(ecg.T, PRINTED, strict=True)
        ]
        edfio.Edf(signals).write(path)
