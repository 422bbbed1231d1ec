"""Machine sound: recordings of machines that are learned as normal, and anomalies to be found.

Three sources: a simulator of rotating machines (beatline.simulators.machines), MIMII (Purohit
et al. 2019, Zenodo record 3384388: one machine type at one signal-to-noise ratio), and a folder or an
archive of one's own, laid out as beatline.datasets.sound.layout says.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import soundfile
from pydantic import Field
from tqdm import tqdm

from beatline import datasets
from beatline.common.errors import UserError, warn
from beatline.common.params import Parameters
from beatline.datasets import (
    COLUMNS,
    Labels,
    Manifest,
    check_bad_records,
    description_of,
    padded,
    warn_of_bad_records,
)
from beatline.datasets.sound.layout import MACHINE, is_audio, place
from beatline.formats import audio
from beatline.simulators.machines import simulator
from beatline.sources import incoming
from beatline.sources.archives import Source, open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

RECORDINGS = "recordings.csv"
BAD_RECORDS = "bad_records.csv"  # of the files that cannot be read, if there are any
BATCH_SAMPLES = 4_000_000  # of read_recordings, 16 MB
CITATIONS = {
    "simulated": (
        "simulated after McFadden & Smith 1984, J. Sound Vib. 96(1); Randall & Antoni 2011, Mech. "
        "Syst. Signal Process. 25(2); Lighthill 1952, Proc. R. Soc. A 211"
    ),
    "mimii": (
        "Purohit et al. 2019, MIMII Dataset: Sound Dataset for Malfunctioning Industrial Machine "
        "Investigation and Inspection, DCASE Workshop; Zenodo record 3384388, CC BY-SA 4.0"
    ),
}
TEXTS: dict[Hashable, type[str]] = dict.fromkeys(
    ("record", "fold", "machine_id", "fault", "event_timestamp"), str
)
_KINDS = {"training": ("train", 0), "normal test": ("test", 0), "anomalous test": ("test", 1)}


class Mimii(Parameters):
    """Which of MIMII's archives: the type of machine, and its signal-to-noise ratio in dB."""

    machine: Literal["fan", "pump", "slider", "valve"]
    snr: Literal[-6, 0, 6]


class Download(datasets.Download):
    """`source`: ``beatline/simulators/machines``, ``mimii.yaml`` here, or a folder or archive of one's
    own."""

    SIMULATOR: ClassVar[str] = "machines"
    simulated: simulator.Simulated
    mimii: Mimii


class AggregateLabels(Parameters):
    """`min_records`: a machine with fewer recordings for training, normal ones for test or anomalies
    is left out. `max_bad_records`: so many unreadable files are skipped; more are an error."""

    min_records: int = Field(ge=1)
    max_bad_records: int = Field(ge=0)


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the audio files, unchanged, and the table of recordings to the pack.

    Files that are no audio, cut short, damaged or not finite are skipped, counted and named.
    """
    counts: dict[str, int] = {}
    if parameters.is_simulated:
        rows = _add_simulated(parameters.simulated, pack)
    else:
        values = parameters.mimii.model_dump()
        with open_source(parameters.path(workspace, **values)) as source:
            rows, counts = _add_files(source, pack)
    for snapshot in incoming.added(parameters.incoming, pack):
        rows += _add_snapshot(snapshot, pack)
    table = pd.DataFrame(rows)
    table["snr"] = table["snr"] if "snr" in table else float("nan")
    if _origin(parameters) == "mimii":
        table["snr"] = float(parameters.mimii.snr)
    pack.add(RECORDINGS, table.to_csv(index=False, lineterminator="\n").encode())
    return _manifest(parameters, table, counts)


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """Normal against anomaly, for the machines that have enough recordings of every kind; raises
    UserError if too many files cannot be read."""
    if BAD_RECORDS in pack:
        bad = pd.read_csv(io.StringIO(pack.text(BAD_RECORDS)), dtype=str, keep_default_na=False)
        check_bad_records(bad["record"].tolist(), parameters.max_bad_records)
    table = _recordings(pack)
    few: dict[str, str] = {}
    for machine_id, recordings in table.groupby("machine_id", sort=True):
        for kind, (fold, anomaly) in _KINDS.items():
            matching = (recordings["fold"] == fold) & (recordings["anomaly"] == anomaly)
            total = int(np.count_nonzero(matching))
            if total < parameters.min_records:
                few[str(machine_id)] = f"{total} {kind} recordings"
    for machine_id, shortage in few.items():
        warn(f"machine {machine_id} has {shortage}, fewer than min_records: it is left out")
    kept = table.loc[~table["machine_id"].isin(list(few))].reset_index(drop=True)
    if kept.empty:
        raise UserError(
            f"no machine has {parameters.min_records} recordings for training, normal ones for test "
            f"and anomalies: lower aggregate_labels.min_records, or add recordings"
        )
    kept["group"] = kept["record"]
    kept["normal"] = 1 - kept["anomaly"]
    columns = [*COLUMNS, "anomaly", "machine_id", "fault", "event_timestamp"]
    if kept["snr"].notna().any():
        columns.append("snr")
    return Labels(
        table=kept.loc[:, columns],
        classes=["anomaly"],
        task="anomaly",
        counts={"machines_left_out": len(few), "records_left_out": len(table) - len(kept)},
        sections="machine_id",
    )


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The waveforms as batches `[B, samples, 1]` in full scale, the mean of their channels.

    They are at the most common sampling rate of the set, and NaN from their end on to that of the
    longest of `records`.
    """
    table = _recordings(pack)
    rate = _common_rate(table)
    length = longest(pack, records, rate)
    waveforms = (samples[:, None] for samples in read_waveforms(pack, records, rate, "mean"))
    yield from padded(waveforms, length, max(1, BATCH_SAMPLES // length))


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Lay sounds out in `folder` as WAV files below `normal/` and `test/`, by machine; the names of their
    records. Raises UserError for an anomaly that is to be learned, or a machine whose name the layout
    would not give back."""
    del blocks
    records = []
    for case in cases:
        kind = "anomaly" if "anomaly" in case.labels else "normal"
        if kind == "anomaly" and case.fold != "test":
            raise UserError(f"recording {case.answer} is an anomaly, which nothing learns: test it")
        above = "test" if case.fold == "test" else "normal"
        name = f"{above}/{case.entity or MACHINE}/{kind}_{case.answer}.wav"
        (placed,) = place([name], name, whole=False)
        if (placed.machine_id, placed.anomaly) != (case.entity or MACHINE, int(kind == "anomaly")):
            raise UserError(
                f"a machine called {case.entity!r} has no place in folders called normal and test: send "
                f"its sounds by another id"
            )
        content = io.BytesIO()
        rate = int(case.sampling_rate or 0)
        soundfile.write(content, case.samples[:, 0], rate, subtype="FLOAT", format="WAV")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getvalue())
        records.append(incoming.packed(date, name))
    return records


def read_waveforms(
    pack: Pack, records: Sequence[str], sampling_rate: int | None, channel: audio.Channel
) -> Iterator[np.ndarray]:
    """The waveforms in the order asked for, each float32 `[samples]` in full scale.

    `sampling_rate` in Hz, to which they are resampled where they differ; None is the most common one
    of the set. `channel`: `mean` of all, or one, counted from 1. Raises UserError for a channel that
    a recording has not.
    """
    rate = sampling_rate or _common_rate(_recordings(pack))
    for record in records:
        sound = audio.read(pack.read(record), record)
        samples = audio.mono(sound.samples, channel, record)
        yield audio.resample(samples, sound.sampling_rate, rate)


def longest(pack: Pack, records: Sequence[str], sampling_rate: int) -> int:
    """Samples of the longest of `records` at `sampling_rate` in Hz."""
    rows = _recordings(pack).set_index("record").loc[list(records)]
    return max(
        audio.resampled_length(int(frames), int(own), sampling_rate)
        for frames, own in zip(rows["frames"], rows["sampling_rate"], strict=True)
    )


def _origin(parameters: Download) -> str | None:
    """`simulated` or `mimii`, of which title and citation are known."""
    if parameters.is_simulated:
        return "simulated"
    return description_of(parameters.source, "sound")


def _add_simulated(parameters: simulator.Simulated, pack: PackWriter) -> list[dict[str, object]]:
    rows = []
    clips = tqdm(
        simulator.simulate(parameters),
        "simulate",
        simulator.number_of_clips(parameters),
        mininterval=10,
        unit=" clips",
    )
    for clip in clips:
        pack.add(clip.record, clip.content)
        rows.append(
            {
                "record": clip.record,
                "fold": clip.fold,
                "machine_id": clip.machine_id,
                "anomaly": int(bool(clip.fault)),
                "fault": clip.fault,
                "event_timestamp": clip.event_timestamp,
                "sampling_rate": parameters.sampling_rate,
                "channels": 1,
                "frames": clip.samples,
                "snr": clip.snr,
            }
        )
    return rows


def _add_files(source: Source, pack: PackWriter) -> tuple[list[dict[str, object]], dict[str, int]]:
    """Add the audio files of a folder or archive; the rows of their table, and what was skipped."""
    names = [name for name in source.names() if is_audio(name)]
    files = {file.name: file for file in place(names, str(source.path))}
    counts = {
        "audio_files_elsewhere": len(names) - len(files),
        "other_files": len(source.names()) - len(names),
    }
    if counts["audio_files_elsewhere"]:
        elsewhere = next(name for name in names if name not in files)
        warn(
            f"{counts['audio_files_elsewhere']} audio files, such as {elsewhere}, are neither in "
            f"normal/ nor in test/: they are skipped"
        )
    rows: dict[str, dict[str, object]] = {}
    bad: dict[str, str] = {}
    for name in tqdm(source.in_order(files), "pack", mininterval=10, unit=" files"):
        try:
            content = source.read(name)
            sound = audio.read(content, name)
        except UserError as error:
            bad[name] = str(error)
            continue
        pack.add(name, content)
        rows[name] = {
            "record": name,
            "fold": files[name].fold,
            "machine_id": files[name].machine_id,
            "anomaly": files[name].anomaly,
            "fault": "",
            "event_timestamp": source.changed(name),
            "sampling_rate": sound.sampling_rate,
            "channels": sound.samples.shape[1],
            "frames": len(sound.samples),
        }
    if bad:
        bad = {name: bad[name] for name in files if name in bad}
        counts["bad_records"] = len(bad)
        warn_of_bad_records(bad)
        table = pd.DataFrame({"record": bad.keys(), "reason": bad.values()})
        pack.add(BAD_RECORDS, table.to_csv(index=False, lineterminator="\n").encode())
    if not rows:
        raise UserError(f"{source.path} holds no audio file that can be read: get it again")
    return [rows[name] for name in files if name in rows], counts


def _add_snapshot(snapshot: incoming.Opened, pack: PackWriter) -> list[dict[str, object]]:
    """Add the audio files of a snapshot; the rows of their table."""
    names = [name for name in snapshot.source.names() if is_audio(name)]
    rows = []
    for file in place(names, str(snapshot.source.path), whole=False):
        content, record = snapshot.source.read(file.name), incoming.packed(snapshot.date, file.name)
        case, sound = snapshot.cases.loc[record], audio.read(content, file.name)
        pack.add(record, content)
        rows.append(
            {
                "record": record,
                "fold": case["fold"],
                "machine_id": file.machine_id,
                "anomaly": file.anomaly,
                "fault": "",
                "event_timestamp": case["moment"],
                "sampling_rate": sound.sampling_rate,
                "channels": sound.samples.shape[1],
                "frames": len(sound.samples),
            }
        )
    return rows


def _manifest(parameters: Download, table: pd.DataFrame, counts: dict[str, int]) -> Manifest:
    rates = Counter(table["sampling_rate"].tolist())
    rate = _common_rate(table)
    if len(rates) > 1:
        warn(
            f"the recordings have {len(rates)} sampling rates "
            f"({', '.join(f'{key} Hz: {rates[key]}' for key in sorted(rates))}): they are resampled"
        )
    for machine_id, recordings in table.groupby("machine_id", sort=True):
        training = int(np.count_nonzero(recordings["fold"] == "train"))
        counts[f"{machine_id}_train"] = training
        counts[f"{machine_id}_test"] = len(recordings) - training
    titles = {
        "simulated": "simulated machine sound",
        "mimii": f"MIMII {parameters.mimii.machine} at {parameters.mimii.snr} dB",
    }
    origin = _origin(parameters) or ""
    return Manifest(
        title=titles.get(origin, "machine sound"),
        source=parameters.source,
        simulated=parameters.is_simulated,
        channels=[f"channel {number + 1}" for number in range(max(table["channels"]))],
        sampling_rate=rate,
        unit="full scale",
        drawing="spectrogram",
        citation=CITATIONS.get(origin, ""),
        counts={"files": len(table), **counts},
    )


def _recordings(pack: Pack) -> pd.DataFrame:
    """The table of recordings: texts as texts, numbers as numbers."""
    text = io.StringIO(pack.text(RECORDINGS))
    return pd.read_csv(text, dtype=TEXTS, keep_default_na=False, na_values={"snr": [""]})


def _common_rate(table: pd.DataFrame) -> int:
    """The most common sampling rate in Hz; of two equally common ones the higher."""
    rates = Counter(table["sampling_rate"].tolist())
    return int(max(rates, key=lambda rate: (rates[rate], rate)))
