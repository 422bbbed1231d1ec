"""PTB-XL from source to labels and recordings: what is partial or damaged is skipped, counted, named."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.signal import decimate

from beatline import datasets
from beatline.common.errors import UserError
from beatline.datasets import Labels, Manifest, ptbxl
from beatline.simulators.ecg import simulator
from beatline.sources import published
from beatline.sources.pack import Pack, PackWriter
from tests.paths import REAL_DATA, ROOT

REAL = REAL_DATA / "ptbxl"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: 400 real records")
CLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
FIRST = "records100/00000/00001_lr"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 simulated records in the official layout; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("made")
    simulator.simulate(folder, records=30, seed=1)
    return folder


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "source"))


def downloaded(source: Path | str, workspace: Path, **changes: Any) -> tuple[Path, Manifest]:
    block = {
        "source": str(source),
        "sampling_rate": 100,
        "sha256": None,
        "simulated": {"records": 20, "seed": 1},
        **changes,
    }
    path = workspace / "raw.zip"
    with PackWriter(path) as pack:
        manifest = ptbxl.download(ptbxl.Download.model_validate(block), pack, workspace)
        pack.add(datasets.MANIFEST, json.dumps({"sampling_rate": manifest.sampling_rate}).encode())
    return path, manifest


def labels_of(path: Path, **changes: Any) -> Labels:
    block = {
        "classes": CLASSES,
        "min_likelihood": 0,
        "min_records": 1,
        "unlabelled": "drop",
        "max_bad_records": 20,
        **changes,
    }
    with Pack(path) as pack:
        return ptbxl.read_labels(pack, ptbxl.AggregateLabels.model_validate(block))


def recordings_of(path: Path, records: list[str]) -> np.ndarray:
    with Pack(path) as pack:
        return np.concatenate(list(ptbxl.read_recordings(pack, records)))


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(folder).as_posix())
    return path


@real
def test_the_real_records(tmp_path: Path) -> None:
    """400 records from the folder as PhysioNet lays it out: counts, labels, and a known recording."""
    path, manifest = downloaded(REAL, tmp_path)
    assert manifest.counts == {"rows": 400, "rows_without_files": 0, "files_without_rows": 0}
    assert (manifest.simulated, manifest.title, manifest.unit) == (False, "PTB-XL", "mV")
    labels = labels_of(path, unlabelled="keep")
    assert labels.task == "multilabel" and labels.classes == CLASSES
    assert labels.counts["bad_records"] == 0 and len(labels.table) == 400
    assert labels.table["record"].to_list()[0] == "00000/00001"
    assert labels.table["group"].to_list()[0] == "15709"
    dropped = labels_of(path).table
    assert len(dropped) == 400 - labels.counts["without_class_kept"]
    assert (dropped[CLASSES].to_numpy().sum(axis=1) > 0).all()
    recording = recordings_of(path, ["00000/00001"])
    assert recording.shape == (1, 1000, 12)
    first_sample = [
        -0.119,
        -0.055,
        0.064,
        0.086,
        -0.091,
        0.004,
        -0.069,
        -0.031,
        0.0,
        -0.026,
        -0.039,
        -0.079,
    ]
    np.testing.assert_allclose(recording[0, 0], first_sample, atol=1e-6)


@real
def test_partial_real_records_at_500_hz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the first 20 are there at 500 Hz: 380 rows without files are counted, some are named."""
    path, manifest = downloaded(REAL, tmp_path, sampling_rate=500)
    assert manifest.sampling_rate == 500
    assert manifest.counts == {"rows": 400, "rows_without_files": 380, "files_without_rows": 0}
    said = capsys.readouterr().out
    assert "warning: 380 rows without files are skipped: records500/00000/00021_hr, " in said
    assert "and 375 more" in said
    labels = labels_of(path, unlabelled="keep")
    assert len(labels.table) == 20
    assert recordings_of(path, labels.table["record"].to_list()).shape == (20, 5000, 12)


@real
def test_records_have_one_name_at_both_rates(tmp_path: Path) -> None:
    """Models at 100 and 500 Hz are compared on the same records: equal names are of equal patients,
    labels and hearts, of which no other record at 500 Hz has as similar a lead II."""
    packs, tables = {}, {}
    for rate in (100, 500):
        (tmp_path / str(rate)).mkdir()
        packs[rate] = downloaded(REAL, tmp_path / str(rate), sampling_rate=rate)[0]
        table = labels_of(packs[rate], unlabelled="keep").table
        tables[rate] = table.set_index("record").sort_index(axis="columns")
    names = tables[500].index.to_list()
    assert names[:2] == ["00000/00001", "00000/00002"] and len(names) == 20
    columns = tables[500].columns  # classes without a record among the 20 are left out
    assert {"group", "fold", "age", "sex", "NORM"} <= set(columns)
    assert tables[100].loc[names, columns].equals(tables[500])
    slow, fast = (recordings_of(packs[rate], names)[:, :, 1] for rate in (100, 500))
    alike = np.corrcoef(slow, decimate(fast, 5, ftype="fir", axis=1))[:20, 20:]
    assert alike.argmax(axis=1).tolist() == list(range(20))
    assert alike.diagonal().min() > 0.9


def test_simulated_records_are_the_same_at_both_rates(tmp_path: Path) -> None:
    """The simulator's patients and labels come from its seed alone, not from the sampling rate."""
    tables = []
    for rate in (100, 500):
        (tmp_path / str(rate)).mkdir()
        path, _ = downloaded("beatline/simulators/ecg", tmp_path / str(rate), sampling_rate=rate)
        tables.append(labels_of(path, unlabelled="keep").table)
    assert len(tables[0]) == 20
    pd.testing.assert_frame_equal(*tables)


def test_files_of_other_names(source: Path, tmp_path: Path) -> None:
    """New recordings in a folder of one's own keep their names, beside those of the convention."""
    before = recordings_of(downloaded(source, tmp_path)[0], ["00000/00001", "00000/00002"])
    (source / "ward").mkdir()
    for ending in (".hea", ".dat"):
        (source / f"{FIRST}{ending}").rename(source / f"ward/00001_lr{ending}")
    edit(source / ptbxl.DATABASE, lambda text: text.replace(FIRST, "ward/00001_lr"))
    path, _ = downloaded(source, tmp_path)
    names = labels_of(path, unlabelled="keep").table["record"].to_list()
    assert names[:2] == ["ward/00001_lr", "00000/00002"]
    assert np.array_equal(recordings_of(path, names[:2]), before)


@pytest.mark.parametrize("rate", [100, 500])
def test_folders_of_any_name(tmp_path: Path, rate: int) -> None:
    """Folders are called as the table says: the rate is what was downloaded, and what neither column
    names is a file without a row, wherever it lies."""
    simulator.simulate(tmp_path / "source", records=20, seed=1, sampling_rate=rate)
    source, official, own = tmp_path / "source", f"records{rate}", f"slow/records{600 - rate}"
    expected = downloaded(source, tmp_path, sampling_rate=rate)[0]
    records = labels_of(expected, unlabelled="keep").table["record"].to_list()
    before = recordings_of(expected, records)
    (source / "slow").mkdir()
    (source / official).rename(source / own)
    edit(source / ptbxl.DATABASE, lambda text: text.replace(f"{official}/", f"{own}/"))
    (source / "stray.hea").write_bytes(b"")
    path, manifest = downloaded(source, tmp_path, sampling_rate=rate)
    assert manifest.counts == {"rows": 20, "rows_without_files": 0, "files_without_rows": 1}
    suffix = {100: "_lr", 500: "_hr"}[rate]
    again = labels_of(path, unlabelled="keep")
    assert again.table["record"].to_list() == [f"{own}/{name}{suffix}" for name in records]
    assert again.counts["bad_records"] == 0
    np.testing.assert_array_equal(recordings_of(path, again.table["record"].to_list()), before)


def test_files_that_would_be_called_the_same(source: Path, tmp_path: Path) -> None:
    """A file whose own name is what the convention makes of another's: each keeps its own."""
    (source / "00000").mkdir()
    for ending in (".hea", ".dat"):
        (source / f"records100/00000/00002_lr{ending}").rename(source / f"00000/00001{ending}")
    edit(source / "00000/00001.hea", lambda text: text.replace("00002_lr", "00001"))
    other = "records100/00000/00002_lr"
    edit(source / ptbxl.DATABASE, lambda text: text.replace(other, "00000/00001"))
    path, _ = downloaded(source, tmp_path)
    names = labels_of(path, unlabelled="keep").table["record"].to_list()
    assert names[:2] == [FIRST, "00000/00001"] and len(set(names)) == 30
    assert not np.array_equal(*recordings_of(path, names[:2]))


def test_folder_and_zip_give_the_same_pack(source: Path, tmp_path: Path) -> None:
    """A mirror as a folder or a zip, also with a folder on top as PhysioNet's: equal bytes."""
    packs = []
    for name, place in {
        "folder": source,
        "zip": zipped(source, tmp_path / "flat.zip"),
        "top": zipped(source, tmp_path / "top.zip", "ptb-xl-1.0.3/"),
    }.items():
        (tmp_path / name).mkdir()
        packs.append(downloaded(place, tmp_path / name)[0].read_bytes())
    assert packs[0] == packs[1] == packs[2]


def test_partial_source(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows without files, half records, and files without a row: skipped, counted and named."""
    (source / "records100/00000/00003_lr.dat").unlink()
    (source / "records100/00000/00004_lr.hea").unlink()
    for ending in (".hea", ".dat"):
        (source / f"records100/00000/00005_lr{ending}").unlink()
        (source / f"records100/00000/09999_lr{ending}").write_bytes(b"")
    path, manifest = downloaded(source, tmp_path)
    assert manifest.counts == {"rows": 30, "rows_without_files": 3, "files_without_rows": 1}
    said = capsys.readouterr().out
    missing = ", ".join(f"records100/00000/0000{number}_lr" for number in (3, 4, 5))
    assert f"3 rows without files are skipped: {missing}" in said
    assert "1 files without a row are skipped: records100/00000/09999_lr" in said
    labels = labels_of(path, unlabelled="keep")
    assert len(labels.table) == 27
    assert labels.counts["bad_records"] == 0


def test_rows_without_a_file_name(source: Path, tmp_path: Path) -> None:
    """New recordings at one rate leave the other rate's file name empty: a row without files."""
    table = pd.read_csv(source / ptbxl.DATABASE)
    table.loc[[0, 1], "filename_lr"] = None
    table.to_csv(source / ptbxl.DATABASE, index=False)
    path, manifest = downloaded(source, tmp_path)
    assert manifest.counts == {"rows": 30, "rows_without_files": 2, "files_without_rows": 2}
    assert len(labels_of(path, unlabelled="keep").table) == 28


def test_wrong_rate_for_the_source(source: Path, tmp_path: Path) -> None:
    """500 Hz from a source that has 100 Hz only: the keys to check."""
    with pytest.raises(
        UserError, match=r"500 Hz \(filename_hr: records500/.*source and download.sampling_rate"
    ):
        downloaded(source, tmp_path, sampling_rate=500)


@pytest.mark.parametrize("table", [ptbxl.DATABASE, ptbxl.STATEMENTS])
def test_missing_table(source: Path, tmp_path: Path, table: str) -> None:
    """A source without one of the tables: the table is named, and no pack is left behind."""
    (source / table).unlink()
    with pytest.raises(UserError, match=table):
        downloaded(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_table_that_is_no_text(source: Path, tmp_path: Path) -> None:
    """A table in another encoding is refused by name."""
    (source / ptbxl.DATABASE).write_bytes("ecg_id\né\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"ptbxl_database\.csv is no UTF-8 text"):
        downloaded(source, tmp_path)


def checksums(source: Path) -> str:
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.relative_to(source).as_posix()}\n"
        for file in sorted(source.rglob("*"))
        if file.is_file()
    ]
    return "".join(lines) + "\n"


def test_published_checksums(source: Path, tmp_path: Path) -> None:
    """SHA256SUMS.txt, where it is there, is held to: a changed file is named and nothing is packed."""
    (source / ptbxl.CHECKSUMS).write_text(checksums(source))
    path, _ = downloaded(source, tmp_path)
    path.unlink()
    damaged = source / f"{FIRST}.dat"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=rf"{FIRST}\.dat has SHA-256 .*SHA256SUMS\.txt says"):
        downloaded(source, tmp_path)
    assert not path.exists()


def test_a_table_that_was_edited(source: Path, tmp_path: Path) -> None:
    """To correct a table leads to its sum, whose cure does not bring the mistake back: it is followed
    here, in a folder and in an archive."""
    edit(source / ptbxl.DATABASE, lambda text: text.replace(FIRST, "records100/00000/00002_lr"))
    (source / ptbxl.CHECKSUMS).write_text(checksums(source))
    with pytest.raises(UserError, match=r"filename_lr .* stands there twice: remove one row"):
        downloaded(source, tmp_path)
    table = pd.read_csv(source / ptbxl.DATABASE)
    table.drop(index=0).to_csv(source / ptbxl.DATABASE, index=False)
    (tmp_path / "w").mkdir()
    for place in (source, zipped(source, tmp_path / "w/edited.zip")):
        with pytest.raises(UserError, match=rf"{ptbxl.DATABASE} has .*line .*{ptbxl.CHECKSUMS}"):
            downloaded(place, tmp_path)
    sums = (source / ptbxl.CHECKSUMS).read_text().splitlines(keepends=True)
    kept = "".join(line for line in sums if ptbxl.DATABASE not in line)
    (source / ptbxl.CHECKSUMS).write_text(kept)
    for place in (source, zipped(source, tmp_path / "w/kept.zip")):
        assert downloaded(place, tmp_path)[1].counts["rows"] == 29


def test_byte_order_marks(source: Path, tmp_path: Path) -> None:
    """An editor's mark before a table, a header or the checksums is no part of a name."""
    (tmp_path / "plain").mkdir()
    plain, _ = downloaded(source, tmp_path / "plain")
    for name in (ptbxl.DATABASE, ptbxl.STATEMENTS, f"{FIRST}.hea"):
        edit(source / name, lambda text: "\ufeff" + text)
    sums = sorted(checksums(source).splitlines(), key=lambda line: f"{FIRST}.dat" not in line)
    (source / ptbxl.CHECKSUMS).write_text("\ufeff" + "\n".join(sums))
    path, _ = downloaded(source, tmp_path)
    labels = labels_of(plain)
    pd.testing.assert_frame_equal(labels_of(path).table, labels.table)
    first = labels.table["record"].to_list()[:1]
    np.testing.assert_array_equal(recordings_of(path, first), recordings_of(plain, first))
    (source / f"{FIRST}.dat").write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{FIRST}\.dat has SHA-256"):
        downloaded(source, tmp_path)


def damage_header(source: Path) -> str:
    edit(source / f"{FIRST}.hea", lambda text: text.replace("12", "twelve", 1))
    return f"{FIRST}.hea"


def drop_lead(source: Path) -> str:
    lines = (source / f"{FIRST}.hea").read_text().splitlines()
    lines[0] = lines[0].replace(" 12 ", " 11 ")
    (source / f"{FIRST}.hea").write_text("\n".join(lines[:-1]) + "\n")
    samples = np.fromfile(source / f"{FIRST}.dat", "<i2").reshape(-1, 12)
    samples[:, :11].tofile(source / f"{FIRST}.dat")
    return f"{FIRST}.hea has no lead v6"


def wrong_rate(source: Path) -> str:
    edit(source / f"{FIRST}.hea", lambda text: text.replace(" 12 100 ", " 12 250 ", 1))
    return f"{FIRST}.hea has 250 Hz instead of 100 Hz"


def cut_short(source: Path) -> str:
    path = source / f"{FIRST}.dat"
    path.write_bytes(path.read_bytes()[:-2])
    return "is cut short to 23998 bytes"


def flip_sample(source: Path) -> str:
    path = source / f"{FIRST}.dat"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    return f"{FIRST}.hea does not fit 00001_lr.dat: the checksum"


@pytest.mark.parametrize("damage", [damage_header, drop_lead, wrong_rate, cut_short, flip_sample])
def test_one_bad_record_is_skipped(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], str],
) -> None:
    """Corrupt .hea, a lead too few, wrong rate, truncated or changed .dat: skipped, counted, named;
    more than `max_bad_records` of them are an error."""
    expected = damage(source)
    path, _ = downloaded(source, tmp_path)
    labels = labels_of(path, unlabelled="keep", max_bad_records=1)
    assert labels.counts["bad_records"] == 1
    assert len(labels.table) == 29 and "00000/00001" not in set(labels.table["record"])
    said = capsys.readouterr().out
    assert "warning: skipped: " in said and expected in said
    with pytest.raises(
        UserError, match=rf"^1 records cannot be read \({FIRST}\).*max_bad_records = 0"
    ):
        labels_of(path, max_bad_records=0)


def test_unlabelled_records(source: Path, tmp_path: Path) -> None:
    """Records without a superclass are dropped or kept, and counted either way."""
    table = pd.read_csv(source / ptbxl.DATABASE)
    table.loc[:3, "scp_codes"] = "{'SR': 0.0}"
    table.to_csv(source / ptbxl.DATABASE, index=False)
    path, _ = downloaded(source, tmp_path)
    kept, dropped = labels_of(path, unlabelled="keep"), labels_of(path)
    without = kept.counts["without_class_kept"]
    assert without == dropped.counts["without_class_dropped"] >= 4
    assert (len(kept.table), len(dropped.table)) == (30, 30 - without)
    assert kept.table.loc[:3, ["normal", *kept.classes]].to_numpy().sum() == 0


def test_classes_and_their_order(made: Path, tmp_path: Path) -> None:
    """The outputs are the classes that were asked for, in that order."""
    path, _ = downloaded(made, tmp_path)
    labels = labels_of(path, classes=["MI", "NORM"])
    assert labels.classes == ["MI", "NORM"]
    assert list(labels.table.columns) == [
        "record",
        "group",
        "normal",
        "fold",
        "MI",
        "NORM",
        "age",
        "sex",
    ]


def test_small_classes(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class below `min_records` is left out with a warning, none left is an error."""
    path, _ = downloaded(made, tmp_path)
    totals = labels_of(path).table[CLASSES].to_numpy().sum(axis=0)
    least = int(totals.max())
    labels = labels_of(path, min_records=least)
    assert labels.classes == [
        name for name, total in zip(CLASSES, totals, strict=True) if total >= least
    ]
    assert capsys.readouterr().out.count("fewer than min_records") == 5 - len(labels.classes)
    with pytest.raises(UserError, match=r"no class has 31 records .*aggregate_labels\.min_records"):
        labels_of(path, min_records=31)


def test_simulated_says_so(tmp_path: Path) -> None:
    """The default source is real to every later stage, and says that it is simulated."""
    path, manifest = downloaded("beatline/simulators/ecg", tmp_path)
    assert manifest.simulated and "simulated" in manifest.title and "PTB-XL" in manifest.title
    assert manifest.counts == {"rows": 20, "rows_without_files": 0, "files_without_rows": 0}
    assert manifest.channels == list(ptbxl.LEADS)
    assert len(labels_of(path, unlabelled="keep").table) == 20
    assert [file.name for file in tmp_path.iterdir()] == ["raw.zip"]  # the workspace is clean again


def test_published_archive_is_not_fetched_twice(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that lies in the workspace is taken, without the network."""
    monkeypatch.setattr(published, "download_file", None)
    description = ROOT / "beatline/datasets/ptbxl/physionet.yaml"
    (name,) = yaml.safe_load(description.read_text())["files"]
    zipped(source, tmp_path / name, "ptb-xl-1.0.3/")
    assert downloaded(description, tmp_path)[1].counts["rows"] == 30


def test_records_as_in_the_challenges(source: Path, tmp_path: Path) -> None:
    """Signals in .mat files, behind a head of 24 bytes, and in microvolts, are the same recordings."""
    path, _ = downloaded(source, tmp_path)
    records = labels_of(path, unlabelled="keep").table["record"].to_list()
    expected = recordings_of(path, records)
    for signal in source.rglob("*.dat"):
        edit(
            signal.with_suffix(".hea"),
            lambda text: text.replace(".dat 16 1000.0(0)/mV", ".mat 16+24 1.0(0)/uV"),
        )
        signal.with_suffix(".mat").write_bytes(bytes(24) + signal.read_bytes())
        signal.unlink()
    (source / "SHA256SUMS.txt").unlink(missing_ok=True)
    path, manifest = downloaded(source, tmp_path)
    assert manifest.counts["rows_without_files"] == manifest.counts["files_without_rows"] == 0
    np.testing.assert_array_equal(recordings_of(path, records), expected)


@real
@pytest.mark.parametrize("task", ["superclass", "subclass", "diagnostic", "form", "rhythm", "all"])
def test_every_task_of_the_real_records(tmp_path: Path, task: str) -> None:
    """All classes of a task that have a record, sorted; records without one are dropped and counted, or
    kept, which leaves a detector the normal ones to learn from."""
    path, _ = downloaded(REAL, tmp_path)
    dropped = labels_of(path, task=task, classes=[])
    kept = labels_of(path, task=task, classes=[], unlabelled="keep")
    assert dropped.classes == kept.classes == sorted(kept.classes)
    table = dropped.table.set_index("record")
    targets = table[dropped.classes].to_numpy()
    assert targets.any(axis=0).all() and targets.any(axis=1).all()
    assert len(table) + kept.counts["without_class_kept"] == len(kept.table) == 400
    pd.testing.assert_frame_equal(kept.table.set_index("record").loc[table.index.to_list()], table)
    assert kept.table["normal"].to_list().count(1) > 50
    assert (1 in dropped.table["normal"].to_list()) == (task != "form")
