"""Recordings of one's own: what is read is what stands in the files, whatever their format; what was done
to bring files together is counted; and what does not fit is one sentence."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import signal

from beatline import datasets
from beatline.common.errors import UserError
from beatline.common.files import sha256
from beatline.common.sums import SUMS
from beatline.datasets import Labels, Manifest, ptbxl, recordings, ucr
from beatline.datasets import table as table_module
from beatline.datasets.recordings import files
from beatline.formats import recordings as formats
from beatline.formats.leads import LEADS
from beatline.preprocessing import splitting
from beatline.sources import incoming
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter
from tests.own_recordings import EDF_STEP, PTBXL, Folder, real_ecgs, write_thirds
from tests.paths import REAL_DATA

VENDORS = REAL_DATA / "vendor_ecg"
SPLIT = {
    "method": "stratified",
    "by": "record",
    "train": 0.7,
    "validation": 0.15,
    "test": 0.15,
    "seed": 1,
}


class Packed:
    """A pack that `module` made of a source, and what it says of itself."""

    def __init__(self, folder: Path, module: Any, block: dict[str, Any]) -> None:
        parameters = module.Download.model_validate({"sha256": None, **block})
        self.module, self.path = module, folder / "raw.zip"
        with PackWriter(self.path) as writer:
            self.manifest: Manifest = module.download(parameters, writer, folder)
            writer.add(datasets.MANIFEST, json.dumps(self.manifest.as_dict()).encode())

    def labels(self, **block: Any) -> Labels:
        with Pack(self.path) as pack:
            parameters = self.module.AggregateLabels.model_validate({"min_records": 1, **block})
            return self.module.read_labels(pack, parameters)

    def samples(self, records: list[str]) -> np.ndarray:
        with Pack(self.path) as pack:
            return np.concatenate(list(self.module.read_recordings(pack, records)))


def made(folder: Path, source: Path, **block: Any) -> Packed:
    block = {"table": "t.csv", "file": "file", "labels": "label", "max_bad_files": 0} | block
    folder.mkdir(exist_ok=True)
    return Packed(folder, recordings, {"source": str(source), **block})


def write(folder: Path, rows: dict[str, list[Any]], arrays: dict[str, np.ndarray]) -> Path:
    """A source with NPY files and the table t.csv."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, array)
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder


def series(count: int = 6, steps: int = 30, channels: int = 2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(count)
    return {f"{n}.npy": draw.standard_normal((steps, channels)).astype("f4") for n in range(count)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six series of two channels, of three classes."""
    arrays = series()
    rows = {"file": list(arrays), "label": ["a", "b", "c", "a", "b", "c"]}
    return write(tmp_path / "source", rows, arrays)


# ---------------------------------------------------------------- real ECGs


@pytest.fixture(scope="module")
def thirds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("thirds")
    return folder, write_thirds(folder)


@real_ecgs
def test_real_ecgs_in_three_formats_are_those_of_ptbxl(
    tmp_path: Path, thirds: tuple[Path, pd.DataFrame]
) -> None:
    """400 records as WFDB, CSV and EDF by thirds, with a table of one's own, give the arrays that the
    module for PTB-XL gives, to the resolution of the format, in its order of leads, in mV."""
    folder, own = thirds
    packed = made(
        tmp_path / "own", folder, table="my_ecgs.csv", file="recording", labels="diagnosis",
        patient="patient", age="age", sex="sex", rate="sampling_rate", unit="unit", leads=list(LEADS),
    )  # fmt: skip
    labels = packed.labels(normal="normal")
    by_ptbxl = Packed(
        tmp_path,
        ptbxl,
        {"source": str(PTBXL), "sampling_rate": 100, "simulated": {"records": 20, "seed": 1}},
    )
    theirs = by_ptbxl.samples([f"00000/{number:05d}" for number in range(1, 401)])
    ours = packed.samples(labels.table["record"].to_list())
    assert ours.shape == theirs.shape == (400, 1000, 12)
    assert np.array_equal(ours[0::3], theirs[0::3])
    assert np.array_equal(ours[1::3], theirs[1::3])
    assert np.abs(ours[2::3] - theirs[2::3]).max() < EDF_STEP
    assert packed.manifest.counts["files_wfdb"] == 134
    assert packed.manifest.counts["files_csv"] == packed.manifest.counts["files_edf"] == 133
    assert packed.manifest.channels == list(LEADS)
    assert packed.manifest.drawing == "twelve_leads"
    assert (packed.manifest.sampling_rate, packed.manifest.unit) == (100, "mV")
    assert labels.classes == ["abnormal"]
    assert (
        labels.table["abnormal"].to_list() == (own["diagnosis"] == "abnormal").astype(int).to_list()
    )
    assert labels.table["sex"].to_list() == (own["sex"] == "female").astype(int).to_list()
    assert labels.table["group"].to_list() == own["patient"].to_list()


@real_ecgs
def test_no_name_or_date_of_a_patient_is_kept(
    tmp_path: Path, thirds: tuple[Path, pd.DataFrame]
) -> None:
    """The pack holds samples and the columns that are named, not the files or other columns."""
    folder, own = thirds
    few = tmp_path / "few"
    few.mkdir()
    rows = own.iloc[2:3].assign(surname="Mustermann")
    rows.to_csv(few / "t.csv", index=False)
    name = str(rows["recording"].iloc[0])
    edf = (folder / name).read_bytes()
    (few / "traces").mkdir()
    (few / name).write_bytes(edf[:8] + b"X X Mustermann_Erika".ljust(80) + edf[88:])
    packed = made(tmp_path / "p", few, file="recording", labels="diagnosis")
    assert b"Mustermann" in (few / name).read_bytes()
    assert b"Mustermann" not in packed.path.read_bytes()


@pytest.mark.skipif(not VENDORS.is_dir(), reason=f"no files of electrocardiographs at {VENDORS}")
def test_files_of_electrocardiographs_are_one_data_set(tmp_path: Path) -> None:
    """A file each of two Philips XMLs, HL7 aECG and DICOM, of two rates and lengths, become twelve
    leads of 10 s in mV, as their readers give them."""
    names = sorted(path.name for path in VENDORS.iterdir())
    shutil.copytree(VENDORS, tmp_path / "source")
    rows = pd.DataFrame({"file": names, "label": ["a", "b"] * 2})
    rows.to_csv(tmp_path / "source/t.csv", index=False)
    packed = made(tmp_path / "p", tmp_path / "source", leads=list(LEADS), seconds=10.0)
    found = packed.samples([name.rpartition(".")[0] for name in names])
    assert found.shape == (4, 5000, 12) and np.isfinite(found).all()
    assert packed.manifest.sampling_rate == 500 and packed.manifest.unit == "mV"
    assert packed.manifest.counts["resampled"] == 1
    for name, ours in zip(names, found, strict=True):
        read = formats.read(Folder(VENDORS), name)
        if read.sampling_rate == 500:
            order = [(read.channels or []).index(lead) for lead in LEADS]
            np.testing.assert_allclose(ours, read.samples[:5000, order], atol=1e-6)


# ---------------------------------------------------------------- the same results as by other modules


def test_series_of_the_archive_are_those_of_ucr(tmp_path: Path) -> None:
    """ECG5000 as a folder of files with a table: the same arrays, labels and splits as by the module for
    the archive, so that a training on it is the same."""
    if not (REAL_DATA / "ecg5000").is_dir():
        pytest.skip("no real ECG5000 here")
    by_ucr = Packed(tmp_path, ucr, {"source": str(REAL_DATA / "ecg5000"), "name": "ECG5000"})
    theirs = by_ucr.labels(target="classes", normal_class="1", min_records=3)
    chosen = theirs.table.iloc[::9].reset_index(drop=True)
    samples = by_ucr.samples(chosen["record"].to_list())
    names = [f"{record}.npy" for record in chosen["record"]]
    label_of = [name.removeprefix("class ") for name in theirs.classes]
    said = [label_of[row.argmax()] for row in chosen[theirs.classes].to_numpy()]
    rows = {"file": names, "label": said, "fold": chosen["fold"].to_list()}
    folder = write(tmp_path / "source", rows, dict(zip(names, samples, strict=True)))
    packed = made(tmp_path / "p", folder, fold="fold")
    ours = packed.labels(min_records=3, normal="1")
    columns = ["record", "group", "normal", "fold", *theirs.classes]
    assert ours.classes == theirs.classes
    assert ours.table.loc[:, columns].equals(chosen.loc[:, columns])
    assert np.array_equal(packed.samples(ours.table["record"].to_list()), samples)
    assert packed.manifest.drawing == "trace" and packed.manifest.sampling_rate is None
    for method in ("stratified", "official"):
        split = splitting.Split.model_validate(SPLIT | {"method": method})
        assert splitting.assign(ours.table, ours.classes, split).equals(
            splitting.assign(chosen, theirs.classes, split)
        )


def test_rows_of_features_are_those_of_table(tmp_path: Path) -> None:
    """A table of features, each row a file of one step in time: the same arrays, labels and split."""
    draw = np.random.default_rng(2)
    features = pd.DataFrame(draw.standard_normal((60, 3)).astype("f4"), columns=["qt", "pr", "rr"])
    features.iloc[3, 1] = np.nan
    kinds = ["NORM", "MI", "CD"] * 20
    names = [f"r{number}" for number in range(60)]
    people = [f"p{number // 2}" for number in range(60)]
    features.assign(kind=kinds, name=names, who=people).to_csv(tmp_path / "rows.csv", index=False)
    columns = {
        "label": "kind",
        "features": [],
        "ignore": [],
        "record": "name",
        "group": "who",
        "fold": None,
    }
    by_table = Packed(tmp_path, table_module, {"source": str(tmp_path / "rows.csv"), **columns})
    theirs = by_table.labels(values=["NORM", "MI", "CD"], normal="NORM", duplicates="error")
    folder = tmp_path / "source"
    folder.mkdir()
    for name, (_, row) in zip(names, features.iterrows(), strict=True):
        row.to_frame().T.to_csv(folder / f"{name}.csv", index=False)
    rows = pd.DataFrame({"file": names, "kind": kinds, "who": people})
    rows.to_csv(folder / "t.csv", index=False)
    packed = made(tmp_path / "p", folder, labels="kind", patient="who")
    ours = packed.labels(classes=["NORM", "MI", "CD"], normal="NORM")
    assert ours.table.loc[:, list(theirs.table)].equals(theirs.table)
    assert packed.manifest.drawing == "features"
    assert packed.manifest.channels == ["qt", "pr", "rr"]
    np.testing.assert_array_equal(packed.samples(names), by_table.samples(names).astype(np.float32))
    split = splitting.Split.model_validate(SPLIT | {"by": "patient"})
    assert splitting.assign(ours.table, ours.classes, split).equals(
        splitting.assign(theirs.table, theirs.classes, split)
    )


# ---------------------------------------------------------------- brought together, and counted


def test_other_rates_lengths_units_and_leads_are_brought_together(tmp_path: Path) -> None:
    """A record at twice the rate, one in µV, one that is short, one that is long, and one without the
    leads that follow from two others, are the one ECG that they were made of, and each is counted."""
    times = np.arange(1000) / 100
    first, second = np.sin(2 * np.pi * 1.2 * times), 0.7 * np.cos(2 * np.pi * 2.1 * times)
    ecg = np.stack([first, second, second - first, -(first + second) / 2], axis=1)
    fine = np.arange(2000) / 200
    fast = np.stack([np.sin(2 * np.pi * 1.2 * fine), 0.7 * np.cos(2 * np.pi * 2.1 * fine)], axis=1)
    folder = tmp_path / "source"
    folder.mkdir()

    def csv(name: str, samples: np.ndarray, leads: list[str]) -> None:
        pd.DataFrame(samples, columns=leads).to_csv(folder / f"{name}.csv", index=False)

    names = ["I", "II", "III", "aVR"]
    for plain in ("a", "b"):
        csv(plain, ecg + (plain == "b") * 0.001, names)
    csv("fast", fast, names[:2])
    csv("micro", ecg * 1000, names)
    csv("short", ecg[:900], names)
    csv("long", np.concatenate([ecg, ecg[:7]]), names)
    rows = {
        "file": ["a", "b", "fast", "micro", "short", "long"],
        "label": ["x", "y"] * 3,
        "hz": [100, 100, 200, 100, 100, 100],
        "unit": ["mV", "mV", "mV", "uV", "mV", "mV"],
    }
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    packed = made(tmp_path / "p", folder, rate="hz", unit="unit")
    counts = packed.manifest.counts
    assert (counts["resampled"], counts["padded"]) == (1, 1)
    # The one in µV is a duplicate of the first once it is in mV.
    names = ("cropped", "files_with_derived_leads", "duplicates")
    assert [counts[name] for name in names] == [1, 1, 1]
    assert packed.manifest.channels == ["I", "II", "III", "AVR"]
    a, b, fast_, micro, short, long = packed.samples(rows["file"])
    np.testing.assert_allclose(a, ecg, atol=1e-6)
    np.testing.assert_allclose(micro, ecg, atol=1e-6)
    np.testing.assert_allclose(long, ecg, atol=1e-6)
    np.testing.assert_allclose(short[:900], ecg[:900], atol=1e-6)
    assert np.isnan(short[900:]).all() and np.isfinite(b).all()
    inner = slice(50, -50)  # away from the ends, beyond which nothing is known
    np.testing.assert_allclose(fast_[inner], ecg[inner], atol=2e-3)
    independent = signal.resample_poly(fast, 1, 2)
    np.testing.assert_allclose(fast_[inner, :2], independent[inner], atol=2e-3)

    rejecting = made(
        tmp_path / "r", folder, rate="hz", unit="unit", shorter="reject", longer="reject"
    )
    left = rejecting.labels().table["record"].to_list()
    assert left == ["a", "b", "fast", "micro"]
    counts = rejecting.manifest.counts
    assert counts["rejected_too_short"] == counts["rejected_too_long"] == 1


def test_rows_without_files_and_the_reverse_are_counted(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels of recordings that are not there, and recordings that nobody has labelled."""
    np.save(source / "extra.npy", np.zeros((30, 2)))
    table = pd.read_csv(source / "t.csv")
    pd.concat([table, pd.DataFrame({"file": ["gone.npy"], "label": ["a"]})]).to_csv(
        source / "t.csv", index=False
    )
    packed = made(tmp_path / "p", source)
    counts = packed.manifest.counts
    assert (counts["rows"], counts["rows_without_files"], counts["files_without_rows"]) == (7, 1, 1)
    printed = capsys.readouterr().out
    assert "gone.npy" in printed and "extra.npy" in printed
    assert len(packed.labels().table) == 6


def test_unreadable_files_are_skipped_up_to_the_limit(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two damaged files of six: with a limit of two they are named and counted, with one they are an
    error that names the parameter, and nothing is left behind."""
    for name in ("1.npy", "4.npy"):
        (source / name).write_bytes((source / name).read_bytes()[:-5])
    packed = made(tmp_path / "p", source, max_bad_files=2)
    assert packed.manifest.counts["files_skipped"] == 2
    assert packed.labels().table["record"].to_list() == ["0", "2", "3", "5"]
    printed = capsys.readouterr().out
    assert "1.npy" in printed and "4.npy" in printed
    with pytest.raises(UserError, match=r"download\.max_bad_files = 1"):
        made(tmp_path / "q", source, max_bad_files=1)
    assert list((tmp_path / "q").iterdir()) == []


def test_no_readable_file_is_an_error(tmp_path: Path, source: Path) -> None:
    for name in series():
        (source / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match="no file of"):
        made(tmp_path / "p", source, max_bad_files=100)


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"file": "fiel"}, "file"),
        ({"labels": "lable"}, "label"),
        ({"patient": "patient_id"}, r"download\.patient"),
        ({"leads": ["V1"]}, r"download\.leads"),
        ({"leads": ["II", "Lead II"]}, r"download\.leads.*II"),
        ({"seconds": 3.0}, r"download\.seconds"),
        ({"seconds": 0.01, "sampling_rate": 100}, r"download\.seconds.* 1 of"),
    ],
)
def test_a_wrong_parameter_is_named(
    tmp_path: Path, source: Path, block: dict[str, Any], named: str
) -> None:
    """A column that is not there comes with the nearest that is."""
    with pytest.raises(UserError, match=named):
        made(tmp_path / "p", source, max_bad_files=100, **block)


def test_a_file_with_two_rows_is_an_error(tmp_path: Path, source: Path) -> None:
    table = pd.read_csv(source / "t.csv")
    pd.concat([table, table.iloc[2:3]]).to_csv(source / "t.csv", index=False)
    with pytest.raises(UserError, match=r"2\.npy"):
        made(tmp_path / "p", source)


def test_what_file_and_table_say_must_agree(tmp_path: Path) -> None:
    """A rate or a unit that the file states otherwise than its row is nobody's guess."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, step in (("a", 0.01), ("b", 0.01)):
        samples = np.random.default_rng(1).standard_normal(50)
        pd.DataFrame({"time (s)": np.arange(50) * step, "x": samples}).to_csv(
            folder / f"{name}.csv", index=False
        )
    rows = {"file": ["a", "b"], "label": ["x", "y"], "hz": [100, 250]}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    packed = made(tmp_path / "p", folder, rate="hz", max_bad_files=1)
    assert packed.manifest.sampling_rate == 100
    assert packed.manifest.counts["files_skipped"] == 1
    assert packed.labels(task="multilabel").table["record"].to_list() == ["a"]


def test_a_unit_that_nobody_says_is_not_taken_for_another(tmp_path: Path) -> None:
    """Samples in µV beside files in mV are refused, and those that can be mV are counted."""
    folder = tmp_path / "source"
    draw = np.random.default_rng(3)
    arrays = {f"{number}.npy": draw.standard_normal((40, 1)) for number in range(3)}
    rows = {"file": list(arrays), "label": ["x", "y", "x"], "unit": ["mV", "mV", ""]}
    write(folder, rows, arrays)
    packed = made(tmp_path / "p", folder, unit="unit")
    assert packed.manifest.counts["unit_taken_for_granted"] == 1
    np.save(folder / "2.npy", arrays["2.npy"] * 1000)
    with pytest.raises(UserError, match=r"download\.unit"):
        made(tmp_path / "q", folder, unit="unit")


# ---------------------------------------------------------------- sources


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"top/{file.relative_to(folder)}")
    return path.with_suffix(".zip")


def _tarred(folder: Path, path: Path) -> Path:
    with tarfile.open(path.with_suffix(".tgz"), "w:gz") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.add(file, f"top/{file.relative_to(folder)}")
    return path.with_suffix(".tgz")


@pytest.mark.parametrize("archived", [_zipped, _tarred])
def test_archives_hold_what_folders_hold(
    tmp_path: Path, source: Path, archived: Callable[[Path, Path], Path]
) -> None:
    """Whatever order an archive has, and with a folder on top."""
    plain, packed = (
        made(tmp_path / "p", source),
        made(tmp_path / "q", archived(source, tmp_path / "a")),
    )
    assert plain.labels().table.equals(packed.labels().table)
    records = plain.labels().table["record"].to_list()
    assert np.array_equal(plain.samples(records), packed.samples(records))


def test_equal_sources_are_equal_bytes(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many processes read."""
    monkeypatch.setenv("BEATLINE_WORKERS", "1")
    one = made(tmp_path / "p", source).path.read_bytes()
    monkeypatch.setenv("BEATLINE_WORKERS", "2")
    monkeypatch.setattr("beatline.common.parallel.STARTUP", 0.0)
    assert made(tmp_path / "q", source).path.read_bytes() == one


@given(st.lists(st.sampled_from("abc/."), min_size=1, max_size=6).map("".join), st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_names_one_file_or_none(name: str, ending: bool) -> None:
    """Whatever stands in the table: the file is one that there is, and its own full name finds it."""
    present = ["a/b.csv", "a/b.npy", "c.hea", "x/a.csv", "y/a.csv"]
    (found,) = files.matched([name + ".csv" * ending], present, "x/")
    assert found is None or found in present
    assert files.matched(present, present, "") == present


def test_files_are_found_by_the_ways_in_which_tables_name_them() -> None:
    present = ["data/r1.hea", "data/r2.csv", "other/r2.npy", "data/r3.edf"]
    named = ["data/r1.dat", "r1", "./data/r2.csv", "data\\r3.edf", "r2", "r3.edf", ""]
    expected = [
        "data/r1.hea",
        "data/r1.hea",
        "data/r2.csv",
        "data/r3.edf",
        None,
        "data/r3.edf",
        None,
    ]
    assert files.matched(named, present, "") == expected
    assert files.matched(["r2"], present, "data/") == ["data/r2.csv"]


def test_an_absent_file_is_no_other_one() -> None:
    """An ending is part of a name, but for the signal file of a WFDB record."""
    present = ["a.npy", "c.npy", "d.hea", "e.1.csv"]
    named = ["a.edf", "c.v1", "a.dat", "d.edf", "d.mat", "e.1", "c"]
    assert files.matched(named, present, "") == [
        None,
        None,
        None,
        None,
        "d.hea",
        "e.1.csv",
        "c.npy",
    ]


def test_paths_of_another_machine_are_known_by_their_ends(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the longest end that one file has, whatever the system; a file that is not there does not
    become that of another folder with the same name."""
    present = ["ecg/a/1.csv", "ecg/b/1.csv", "ecg/b/2.hea", "3.csv"]
    named = ["/home/x/ecg/a/1.csv", "C:\\x\\ecg\\b\\1", "/mnt/ecg/b/2.dat", "~/3.csv", "/1.csv"]
    assert files.matched(named, present, "ecg/") == [
        "ecg/a/1.csv",
        "ecg/b/1.csv",
        *present[2:],
        None,
    ]
    swapped = ["/home/x/a/1.csv", "/home/x/b/1.csv"]
    assert files.matched(swapped, present, "") == present[:2]
    sites = ["/x/siteA/1.csv", "/x/siteB/2.csv", "/x/siteB/3.csv"]
    there = ["siteA/1.csv", "siteA/2.csv"]
    assert files.matched(sites, there, "") == ["siteA/1.csv", None, None]
    table = pd.read_csv(source / "t.csv")
    table.assign(file="/home/x/ecg/" + table["file"]).to_csv(source / "t.csv", index=False)
    packed = made(tmp_path / "p", source)
    assert packed.manifest.counts["rows_with_paths_elsewhere"] == len(packed.labels().table) == 6
    assert "/home/x/ecg/0.npy" in capsys.readouterr().out


# ---------------------------------------------------------------- channels and units


def _csvs(folder: Path, each: dict[str, tuple[list[str], np.ndarray]], **columns: Any) -> Path:
    """A source with CSV files of named channels, without units."""
    folder.mkdir()
    for name, (channels, samples) in each.items():
        text = ",".join(channels) + "\n"
        text += "".join(",".join(map(str, row)) + "\n" for row in samples.tolist())
        (folder / f"{name}.csv").write_text(text)
    rows = {"file": list(each), "label": ["a", "b"] * (len(each) // 2), **columns}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder


def test_channels_of_one_name_are_all_kept(tmp_path: Path) -> None:
    """Two channels of a Holter recorder's EDF: the second is the second, not the first again. Of two
    that are one lead nobody knows which is right."""
    folder = tmp_path / "source"
    folder.mkdir()
    draw = np.random.default_rng(1)
    rows = {"file": ["a", "b", "leads"], "label": ["x", "y", "x"]}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    for name in rows["file"]:
        labels = ["V1", "V1", "V2"] if name == "leads" else ["ECG", "ECG", "ECG 2"]
        samples = draw.uniform(-1, 1, (3, 300))
        edfio.Edf(
            [
                edfio.EdfSignal(one, 100, label=label, physical_dimension="mV")
                for one, label in zip(samples, labels, strict=True)
            ]
        ).write(folder / f"{name}.edf")
    packed = made(tmp_path / "p", folder, max_bad_files=1)
    assert packed.manifest.channels == ["ECG", "ECG 3", "ECG 2"]
    assert packed.manifest.counts["files_skipped"] == 1
    found = packed.samples(["a", "b"])
    original = np.stack([s.data for s in edfio.read_edf(folder / "b.edf").signals], axis=1)
    np.testing.assert_allclose(found[1], original, atol=1e-6)


def test_unnamed_channels_of_another_number_are_not_guessed(tmp_path: Path) -> None:
    """The third of twelve channels is not the third of eight, and `[2, 500]` has not 500 channels."""
    arrays = series(4, steps=500, channels=2)
    arrays["1.npy"] = np.tile(arrays["1.npy"], 3)
    arrays["3.npy"] = arrays["3.npy"].T
    rows = {"file": list(arrays), "label": ["a", "b", "a", "b"]}
    packed = made(
        tmp_path / "p", write(tmp_path / "source", rows, arrays), max_bad_files=2, shorter="pad"
    )
    assert packed.manifest.counts["files_skipped"] == 2
    assert packed.labels(task="multilabel").table["record"].to_list() == ["0", "2"]


def test_units_are_looked_at_where_the_first_lead_is_derived(tmp_path: Path) -> None:
    """aVR of two files follows from I and II in mV: one whose limb leads are in another unit is
    skipped, and one in µV without a unit is refused."""
    draw = np.random.default_rng(2)
    each = {name: (["I", "II"], draw.standard_normal((40, 2))) for name in "abcd"}
    folder = _csvs(tmp_path / "source", each, unit=["mV", "mV", "mV", "kPa"])
    block = {"unit": "unit", "leads": ["aVR"], "max_bad_files": 1}
    packed = made(tmp_path / "p", folder, **block)
    assert packed.manifest.unit == "mV"
    assert packed.manifest.counts["files_skipped"] == 1
    each["d"] = each["d"][0], each["d"][1] * 1000
    folder = _csvs(tmp_path / "other", each, unit=["mV", "mV", "mV", ""])
    with pytest.raises(UserError, match=r"download\.unit"):
        made(tmp_path / "q", folder, **block)


def test_a_channel_in_another_unit_is_named(tmp_path: Path) -> None:
    """Of an ECG with respiration, which no conversion brings to mV: it is named with what leaves it out,
    and without it the files are used."""
    folder = tmp_path / "source"
    folder.mkdir()
    draw = np.random.default_rng(3)
    rows = {"file": list("abcd"), "label": ["x", "y", "x", "y"]}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    for name in rows["file"]:
        signals = [
            edfio.EdfSignal(draw.uniform(-1, 1, 300), 100, label=label, physical_dimension=unit)
            for label, unit in (("I", "mV"), ("Resp", "Ohm"))
        ]
        edfio.Edf(signals).write(folder / f"{name}.edf")
    with pytest.raises(UserError, match=r"Resp.*Ohm.*download\.leads"):
        made(tmp_path / "p", folder, max_bad_files=4)
    assert made(tmp_path / "q", folder, leads=["I"]).manifest.unit == "mV"


def test_ranges_tell_of_units_that_nobody_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in µV among those in mV is named and counted; a flat one is only flat."""
    arrays = series(6)
    arrays["1.npy"] *= 0
    rows = {"file": list(arrays), "label": ["a", "b"] * 3}
    folder = write(tmp_path / "source", rows, arrays)
    assert "ranges_far_from_others" not in made(tmp_path / "p", folder).manifest.counts
    np.save(folder / "4.npy", arrays["4.npy"] * 1000)
    capsys.readouterr()
    assert made(tmp_path / "q", folder).manifest.counts["ranges_far_from_others"] == 1
    assert "(4.npy)" in capsys.readouterr().out


def test_files_called_after_people_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, as their names become those of records."""
    arrays = dict(
        zip(["Ada Muster.npy", "Bo Östlund 2.npy", "c 3.npy"], series(3).values(), strict=True)
    )
    rows = {"file": list(arrays), "label": ["a", "b", "a"]}
    packed = made(tmp_path / "p", write(tmp_path / "source", rows, arrays))
    assert packed.labels().table["record"].to_list() == ["Ada Muster", "Bo Östlund 2", "c 3"]
    assert capsys.readouterr().out.count("2 files are called") == 1


# ---------------------------------------------------------------- later recordings


def test_snapshots_join(tmp_path: Path, source: Path) -> None:
    """What `write` lays out for recordings whose outcome became known is read back as it was, with its
    classes as the model calls them."""
    packed = made(tmp_path / "p", source)
    folder = tmp_path / "incoming/2026-01-01"
    folder.mkdir(parents=True)
    later = np.arange(60, dtype=np.float32).reshape(30, 2)
    case = Case("one", "2026-01-01T00:00:00Z", None, "p7", ["B"], later, None, "train")
    blocks = {"aggregate_labels": {"min_records": 1, "map": {"b": "B"}}}
    (record,) = records = recordings.write(folder, "2026-01-01", [case], blocks)
    incoming.write_cases(folder, records, [case])
    snapshot = {"folder": str(folder), "sha256": sha256(folder / SUMS)}
    both = made(tmp_path / "q", source, incoming=[snapshot])
    labels = both.labels(map={"b": "B"})
    assert len(labels.table) == 7
    assert labels.table.set_index("record").loc[record, ["B", "a", "c"]].to_list() == [1, 0, 0]
    assert np.array_equal(both.samples([record])[0], later)
    records = packed.labels().table["record"].to_list()
    assert np.array_equal(both.samples(records), packed.samples(records))


def test_arrays_without_names_are_those_of_the_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`[T, C]` or `[C, T]`, where the leads are named; which is counted, and of arrays whose channels
    nobody names, more than samples, there is a warning."""
    arrays = series(4, steps=30, channels=2)
    arrays["3.npy"] = arrays["3.npy"].T
    rows = {"file": list(arrays), "label": ["a", "b", "a", "b"]}
    folder = write(tmp_path / "source", rows, arrays)
    packed = made(tmp_path / "p", folder, leads=["x", "y"])
    assert packed.manifest.channels == ["x", "y"]
    assert packed.manifest.counts["channels_taken_for_granted"] == 4
    found = packed.samples(["0", "1", "2", "3"])
    assert np.array_equal(found, [*(arrays[f"{n}.npy"] for n in range(3)), arrays["3.npy"].T])
    for name in arrays:
        np.save(folder / name, np.random.default_rng(1).standard_normal((2, 30)))
    capsys.readouterr()
    made(tmp_path / "q", folder)
    assert "download.leads" in capsys.readouterr().out
