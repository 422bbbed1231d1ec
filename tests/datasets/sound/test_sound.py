"""Machine sound: what paths say, what is packed and read back, and every mistake named with its file."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile

from beatline.common.errors import UserError
from beatline.datasets import Labels, Manifest, sound
from beatline.datasets.sound.layout import Placed, place
from beatline.sources.pack import Pack, PackWriter
from tests.paths import REAL_DATA, ROOT

REAL = REAL_DATA / "bearing_vibration"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: real vibration")
TIME = 1_700_000_000  # 2023-11-14T22:13:20Z
SIMULATED = {"machines": 2, "train": 3, "test_normal": 2, "test_anomaly": 2, "seconds": 0.25,
             "sampling_rate": 16000, "snr": [0.0, 6.0], "seed": 1}  # fmt: skip
PLAIN = ("normal/a.wav", "normal/b.wav", "test/normal_1.wav", "test/anomaly_1.wav")


def tone(samples: int = 400, rate: int = 16000, channels: int = 1, container: str = "WAV") -> bytes:
    waveform = np.random.default_rng(samples).normal(0, 0.1, (samples, channels))
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=container)
    return file.getvalue()


def folder_of(folder: Path, files: dict[str, bytes]) -> Path:
    for number, (name, content) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, (TIME + number, TIME + number))
    return folder


def downloaded(source: Path | str, workspace: Path, **changes: Any) -> tuple[Path, Manifest]:
    """The pack of a data set and its manifest."""
    block = {
        "source": str(source),
        "sha256": None,
        "simulated": SIMULATED,
        "mimii": {"machine": "fan", "snr": 6},
        **changes,
    }
    path = workspace / "raw.zip"
    with PackWriter(path) as pack:
        manifest = sound.download(sound.Download.model_validate(block), pack, workspace)
    return path, manifest


def labels_of(path: Path, min_records: int = 1, max_bad_records: int = 1) -> Labels:
    with Pack(path) as pack:
        return sound.read_labels(
            pack, sound.AggregateLabels(min_records=min_records, max_bad_records=max_bad_records)
        )


def recordings_table(path: Path) -> pd.DataFrame:
    with Pack(path) as pack:
        return pd.read_csv(io.StringIO(pack.text("recordings.csv")), keep_default_na=False)


def placed(*names: str) -> dict[str, tuple[str, str, int]]:
    """Fold, machine ID and anomaly by name."""
    files: list[Placed] = place(names, "source")
    return {file.name: (file.fold, file.machine_id, file.anomaly) for file in files}


# ----------------------------------------------------------------------------------------- layout


def test_a_plain_folder() -> None:
    """normal/ is for training, the names in test/ say which kind; without IDs there is one machine."""
    assert placed(*PLAIN) == {
        "normal/a.wav": ("train", "machine", 0),
        "normal/b.wav": ("train", "machine", 0),
        "test/anomaly_1.wav": ("test", "machine", 1),
        "test/normal_1.wav": ("test", "machine", 0),
    }


@pytest.mark.parametrize(
    ("name", "anomaly"),
    [
        ("abnormal_3", 1),
        ("ABNORMAL3", 1),
        ("x_Anomaly", 1),
        ("anomalous-x", 1),
        ("NORMAL_3", 0),
        ("xnormalx", 0),
    ],
)
def test_words_in_names(name: str, anomaly: int) -> None:
    """Letters of either case, anywhere in the name; an abnormal is an anomaly and no normal."""
    assert placed(*PLAIN, f"Test/{name}.wav")[f"Test/{name}.wav"][2] == anomaly


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("test/pump_7.wav", "neither normal nor anomaly"),
        ("test/normal_anomaly.wav", "both normal and anomaly"),
        ("test/abnormal_or_normal.wav", "both normal and anomaly"),
    ],
)
def test_a_test_file_that_says_neither_or_both_is_named(name: str, word: str) -> None:
    """Such a file must not be guessed at: it would be scored as right or wrong by chance."""
    with pytest.raises(UserError, match=rf"{name} says {word}"):
        place([*PLAIN, name], "source")


def test_an_anomaly_among_the_training_recordings_is_named() -> None:
    """A detector that learned an anomaly as normal would be worse without anybody knowing."""
    with pytest.raises(UserError, match=r"normal/Abnormal_3\.wav is among the recordings"):
        place([*PLAIN, "normal/Abnormal_3.wav"], "source")


@pytest.mark.parametrize("lacking", [PLAIN[:2], PLAIN[2:], PLAIN[:3], [*PLAIN[:2], PLAIN[3]], []])
def test_a_layout_that_lacks_a_part_is_refused(lacking: tuple[str, ...]) -> None:
    """Training, normal and anomalous recordings: without one of them nothing can be measured."""
    with pytest.raises(UserError, match="source holds no "):
        place(lacking, "source")


@pytest.mark.parametrize(
    "names",
    [
        ["fan/train/normal_id_00_0.wav", "fan/train/normal_id_02_0.wav",
         "fan/test/normal_id_00_1.wav", "fan/test/anomaly_id_02_1.wav"],
        ["normal/id_00/0.wav", "normal/id_02/0.wav",
         "test/id_00/normal.wav", "test/id_02/anomaly.wav"],
        ["id_00/normal/0.wav", "id_02/normal/0.wav",
         "id_00/test/normal.wav", "id_02/test/anomaly/0.wav"],
    ],
)  # fmt: skip
def test_machine_ids(names: list[str]) -> None:
    """DCASE's file names, and folders above or below normal/ and test/, give the same IDs."""
    found = placed(*names)
    assert [found[name][1] for name in names] == ["id_00", "id_02", "id_00", "id_02"]
    assert [found[name][2] for name in names] == [0, 0, 0, 1]


def test_machine_ids_of_any_name_and_of_several_types() -> None:
    """Folders that tell machines apart make the ID, shared ones do not, unless called id_<number>."""
    names = ["plant/pump a/normal/0.wav", "plant/pump b/normal/0.wav",
             "plant/pump a/test/normal.wav", "plant/pump b/test/anomaly.wav"]  # fmt: skip
    assert {machine for _, machine, _ in placed(*names).values()} == {"pump a", "pump b"}
    names = [f"{kind}/normal/id_01/0.wav" for kind in ("fan", "pump")]
    names += ["fan/test/id_01/normal.wav", "pump/test/id_01/anomaly.wav"]
    assert {machine for _, machine, _ in placed(*names).values()} == {"fan_id_01", "pump_id_01"}
    assert {machine for _, machine, _ in placed(*(f"id_06/{name}" for name in PLAIN)).values()} == {
        "id_06"
    }


def test_mimii_is_divided_as_by_its_baseline() -> None:
    """Each machine's first normal recordings, as many as abnormal ones, are for test."""
    names = [f"fan/id_0{machine}/normal/{k:08d}.wav" for machine in (0, 2) for k in range(5)]
    names += [f"fan/id_00/abnormal/{k:08d}.wav" for k in range(2)]
    names += [f"fan/id_02/abnormal/{k:08d}.wav" for k in range(3)]
    found = placed(*names)
    for machine, abnormal in (("id_00", 2), ("id_02", 3)):
        folds = [found[f"fan/{machine}/normal/{k:08d}.wav"] for k in range(5)]
        assert [fold for fold, *_ in folds] == ["test"] * abnormal + ["train"] * (5 - abnormal)
        assert {kind for *_, kind in folds} == {0}
    assert found["fan/id_02/abnormal/00000001.wav"] == ("test", "id_02", 1)


def test_mimii_with_too_few_normal_recordings() -> None:
    """A machine that nothing can be learned of is named."""
    names = ["id_00/normal/0.wav", "id_00/normal/1.wav", "id_00/abnormal/0.wav"]
    names += ["id_02/normal/0.wav", "id_02/abnormal/0.wav"]
    with pytest.raises(UserError, match="id_02 has no more normal than abnormal"):
        place(names, "source")


# ---------------------------------------------------------------------------- download and labels


def test_a_folder_of_many_formats(tmp_path: Path) -> None:
    """Bytes unchanged, every property of a file in the table, what is no audio left out."""
    files = {
        "normal/a.wav": tone(300),
        "normal/b.FLAC": tone(400, 48000, 2, "FLAC"),
        "test/normal.ogg": tone(500, container="OGG"),
        "test/anomaly.mp3": tone(2000, container="MP3"),
        "test/.hidden.wav": b"",
        "__MACOSX/test/x.wav": b"",
        "readme.txt": b"text",
        "spare/c.wav": tone(),
    }
    path, manifest = downloaded(folder_of(tmp_path / "set", files), tmp_path)
    with Pack(path) as pack:
        names = [name for name in pack.names() if name != "recordings.csv"]
        assert names == sorted(names) == sorted(name for name in list(files)[:4])
        assert all(bytes(pack.read(name)) == files[name] for name in names)
    table = recordings_table(path).set_index("record")
    assert table.loc["normal/b.FLAC", ["sampling_rate", "channels", "frames"]].tolist() == [
        48000,
        2,
        400,
    ]
    assert table.loc["test/anomaly.mp3", "event_timestamp"] == "2023-11-14T22:13:23Z"
    assert (manifest.channels, manifest.sampling_rate) == (["channel 1", "channel 2"], 16000)
    assert manifest.counts == {
        "files": 4,
        "audio_files_elsewhere": 1,
        "other_files": 2,
        "machine_train": 2,
        "machine_test": 2,
    }
    assert not manifest.simulated and manifest.drawing == "spectrogram"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_says_the_same_as_its_folder(tmp_path: Path, kind: str) -> None:
    """Also when its files lie below a folder on top, with the dates of its members."""
    files = {name: tone(300 + number) for number, name in enumerate(PLAIN)}
    folder = folder_of(tmp_path / "set", files)
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name in files:
                file.writestr(zipfile.ZipInfo(f"top/{name}", (2024, 5, 6, 7, 8, 10)), files[name])
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, "./top")
    of_folder, of_archive = (
        recordings_table(downloaded(source, tmp_path)[0]) for source in (folder, archive)
    )
    if kind == "zip":
        assert set(of_archive.pop("event_timestamp")) == {"2024-05-06T07:08:10Z"}
        of_folder = of_folder.drop(columns="event_timestamp")
    of_archive["record"] = of_archive["record"].str.removeprefix("top/")
    pd.testing.assert_frame_equal(of_archive, of_folder)


@pytest.mark.parametrize("content", [b"", b"no sound at all", tone()[:-1], b"RIFFxxxxWAVE"])
def test_a_bad_file_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """It is counted and named, and the others are packed as without it; more than `max_bad_records`
    of them are an error, with the key."""
    good = {name: tone(400 + number) for number, name in enumerate(PLAIN)}
    folder = folder_of(tmp_path / "own", {**good, "normal/z.wav": content})
    path, manifest = downloaded(folder, tmp_path)
    assert manifest.counts["bad_records"] == 1 and manifest.counts["files"] == 4
    assert re.search(r"skipped: normal/z\.wav .*(cut short|no audio)", capsys.readouterr().out)
    assert recordings_table(path)["record"].tolist() == sorted(good)
    assert labels_of(path, max_bad_records=1).table["record"].tolist() == sorted(good)
    with pytest.raises(
        UserError, match=r"^1 records .*normal/z\.wav.*aggregate_labels\.max_bad_records = 0"
    ):
        labels_of(path, max_bad_records=0)
    (folder / "normal/z.wav").unlink()
    (tmp_path / "clean").mkdir()
    clean, manifest = downloaded(folder, tmp_path / "clean")
    assert "bad_records" not in manifest.counts
    with Pack(path) as one, Pack(clean) as other:
        assert set(one.names()) - set(other.names()) == {"bad_records.csv"}
        assert all(one.read(name) == other.read(name) for name in other.names())


def test_a_damaged_member_of_an_archive_is_a_bad_file(tmp_path: Path) -> None:
    """It is the archive that notices, and the other members are as they were."""
    names = [*PLAIN, "own/normal/z.wav"]
    files = {name: tone(400 + number) for number, name in enumerate(names)}
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = path.read_bytes()
    place_of_z = content.index(files["own/normal/z.wav"]) + 100
    path.write_bytes(content[:place_of_z] + b"\xff\0\xff" + content[place_of_z + 3 :])
    packed, manifest = downloaded(path, tmp_path)
    assert manifest.counts["bad_records"] == 1
    assert recordings_table(packed)["record"].tolist() == sorted(PLAIN)


def test_many_bad_files_are_named_in_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five of them; and none that can be read is an error at once."""
    files = {f"normal/z{number}.wav": b"" for number in range(7)}
    folder = folder_of(tmp_path / "own", {name: tone() for name in PLAIN} | files)
    path, manifest = downloaded(folder, tmp_path)
    assert manifest.counts["bad_records"] == 7
    assert capsys.readouterr().out.count("skipped: ") == 5
    with pytest.raises(UserError, match=r"^7 records .*z4\.wav and 2 more.*max_bad_records"):
        labels_of(path)
    for name in PLAIN:
        (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"own holds no audio file that can be read"):
        downloaded(folder, tmp_path)


def test_the_mimii_archive_is_read_as_published(tmp_path: Path) -> None:
    """An archive that has been downloaded is used, with its ratio in the table, eight microphones."""
    with zipfile.ZipFile(tmp_path / "mimii_-6_dB_fan.zip", "w") as archive:
        for number, name in enumerate(("normal/0", "normal/1", "abnormal/0")):
            archive.writestr(f"fan/id_04/{name}.wav", tone(300 + number, channels=8))
    description = ROOT / "beatline/datasets/sound/mimii.yaml"
    path, manifest = downloaded(description, tmp_path, mimii={"machine": "fan", "snr": -6})
    table = labels_of(path).table
    assert manifest.title == "MIMII fan at -6 dB" and len(manifest.channels) == 8
    assert table["machine_id"].unique().tolist() == ["id_04"] and set(table["snr"]) == {-6.0}


def test_labels_of_the_simulated_set(tmp_path: Path) -> None:
    """No anomaly is in train, metrics are per machine, and what is known of a clip stands in a row."""
    path, manifest = downloaded("beatline/simulators/machines", tmp_path)
    labels = labels_of(path)
    table = labels.table
    assert manifest.simulated and (labels.task, labels.classes) == ("anomaly", ["anomaly"])
    assert labels.sections == "machine_id" and table["record"].is_unique
    kinds = table[["normal", "anomaly", "fault"]].itertuples(index=False, name=None)
    assert all((normal, bool(fault)) == (1 - anomaly, anomaly) for normal, anomaly, fault in kinds)
    counts = table.groupby(["machine_id", "fold", "anomaly"]).size().to_dict()
    assert counts == {
        (machine, *kind): count
        for machine in ("id_00", "id_01")
        for kind, count in ((("train", 0), 3), (("test", 0), 2), (("test", 1), 2))
    }
    assert table["event_timestamp"].is_unique
    times = pd.to_datetime(table["event_timestamp"], format="%Y-%m-%dT%H:%M:%SZ")
    assert times[table["fold"] == "train"].max() < times[table["fold"] == "test"].min()


def test_the_simulated_pack_is_a_source_like_any_other(tmp_path: Path) -> None:
    """Its files are named so that folds, machines and anomalies can be read off their names."""
    first, _ = downloaded("beatline/simulators/machines", tmp_path)
    first = first.rename(tmp_path / "own.zip")
    second, _ = downloaded(first, tmp_path)
    columns = ["record", "fold", "machine_id", "anomaly"]
    before, after = (
        sorted(recordings_table(path)[columns].itertuples(index=False, name=None))
        for path in (first, second)
    )
    assert before == after and len(before) == 14


def test_machines_with_too_few_recordings_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An AUC of one recording says nothing; which machine is left out, and why, is said."""
    names = [f"normal/id_0{machine}/{k}.wav" for machine in (0, 2) for k in range(2)]
    names += [f"test/id_00/{kind}_{k}.wav" for kind in ("normal", "anomaly") for k in range(2)]
    names += ["test/id_02/normal_0.wav", "test/id_02/normal_1.wav", "test/id_02/anomaly_0.wav"]
    path, _ = downloaded(folder_of(tmp_path / "set", dict.fromkeys(names, tone())), tmp_path)
    labels = labels_of(path, 2)
    assert labels.table["machine_id"].unique().tolist() == ["id_00"]
    assert labels.counts == {"machines_left_out": 1, "records_left_out": 5}
    assert "id_02 has 1 anomalous test recordings" in capsys.readouterr().out
    with pytest.raises(UserError, match="no machine has 3 recordings for training"):
        labels_of(path, 3)


# ----------------------------------------------------------------------------------------- reading


def test_waveforms_are_those_of_librosa(tmp_path: Path) -> None:
    """In the order asked for, mixed or one microphone, at the common rate or the one asked for."""
    files = {name: tone(800 + 7 * number) for number, name in enumerate(PLAIN)}
    files["test/normal_fast.flac"] = tone(1601, 44100, 2, "FLAC")
    path, _ = downloaded(folder_of(tmp_path / "set", files), tmp_path)
    names = ["test/normal_fast.flac", *PLAIN[::-1]]
    with Pack(path) as pack:
        for rate in (None, 8000):
            read = list(sound.read_waveforms(pack, names, rate, "mean"))
            assert max(map(len, read)) == sound.longest(pack, names, rate or 16000)
            for name, samples in zip(names, read, strict=True):
                expected, _ = librosa.load(io.BytesIO(files[name]), sr=rate or 16000)
                np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)
        (second,) = sound.read_waveforms(pack, names[:1], 44100, 2)
        both, _ = librosa.load(io.BytesIO(files[names[0]]), sr=None, mono=False)
        np.testing.assert_array_equal(second, both[1])
        with pytest.raises(UserError, match=r"normal/a\.wav has 1 channel"):
            list(sound.read_waveforms(pack, ["normal/a.wav"], None, 2))


def test_recordings_are_filled_up_with_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of the interface: all as long as the longest, NaN where a recording has ended."""
    monkeypatch.setattr(sound, "BATCH_SAMPLES", 1000)
    files = {name: tone(300 + 50 * number) for number, name in enumerate(PLAIN)}
    path, _ = downloaded(folder_of(tmp_path / "set", files), tmp_path)
    with Pack(path) as pack:
        batches = list(sound.read_recordings(pack, PLAIN))
        waveforms = list(sound.read_waveforms(pack, PLAIN, None, "mean"))
    assert [batch.shape for batch in batches] == [(2, 450, 1), (2, 450, 1)]
    for row, waveform in zip(np.concatenate(batches)[:, :, 0], waveforms, strict=True):
        np.testing.assert_array_equal(row[: len(waveform)], waveform)
        assert np.isnan(row[len(waveform) :]).all()


@real
def test_the_real_folder(tmp_path: Path) -> None:
    """10 training, 10 normal and 52 anomalous recordings of 0.25 s at 48 kHz in float32."""
    path, manifest = downloaded(REAL, tmp_path)
    table = labels_of(path, 10).table
    assert (manifest.sampling_rate, manifest.counts["files"]) == (48000, 72)
    assert table.groupby(["fold", "anomaly"]).size().to_dict() == {
        ("train", 0): 10,
        ("test", 0): 10,
        ("test", 1): 52,
    }
    names = table["record"].to_list()
    with Pack(path) as pack:
        for name, samples in zip(
            names[::9], sound.read_waveforms(pack, names[::9], None, "mean"), strict=True
        ):
            expected, rate = librosa.load(REAL / name, sr=None)
            assert rate == 48000 and len(samples) == 12000
            np.testing.assert_array_equal(samples, expected)
