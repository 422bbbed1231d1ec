"""Recordings in every form in which they can be sent, and data sets that they may be meant for."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import orjson
import soundfile
from PIL import Image

from beatline.serving.settings import Serve
from beatline.serving.uploads import File, Upload
from tests.pipeline.clones import ROOT

REAL = ROOT.parent / "shared/data"
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
LIMITS = Serve(
    features="ecg_features/mlp",
    max_megabytes=16,
    max_values=4_000_000,
    max_rows=1000,
    seconds_to_send=30,
    seconds_to_answer=30,
    poll_seconds=1,
)
_COMMON: dict[str, Any] = {"representation": None, "sampling_rate": None}
ECG: dict[str, Any] = {**_COMMON, "channels": LEADS, "sampling_rate": 100, "unit": "mV",
                       "drawing": "twelve_leads", "length": 1000}  # fmt: skip
SERIES: dict[str, Any] = {**_COMMON, "channels": ["channel 1"], "unit": "archive units",
                          "drawing": "trace", "length": 140}  # fmt: skip
DIGITS: dict[str, Any] = {**_COMMON, "channels": [f"column {n}" for n in range(1, 29)],
                          "unit": "share of white", "drawing": "image", "length": 28}  # fmt: skip
SOUND: dict[str, Any] = {
    "channels": [f"mel band {n}" for n in range(1, 33)],
    "sampling_rate": 31.25,
    "unit": "dB",
    "drawing": "spectrogram",
    "length": 20,
    "representation": {"kind": "sound", "channel": "mean", "sampling_rate": 16000, "frame": 1024,
                       "hop": 512, "bands": 32, "lowest_frequency": 0.0, "highest_frequency": None,
                       "top_db": 80.0, "contrast_bands": 6},
}  # fmt: skip


def upload(content: bytes, content_type: str = "", **headers: str) -> Upload:
    """A plain body. `headers`: x_sampling_rate="500" is X-Sampling-Rate."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Upload(content_type, named, [File("", content)])


def form(*files: tuple[str, bytes]) -> Upload:
    """A multipart form."""
    return Upload("multipart/form-data", {}, [File(name, content) for name, content in files])


def raw(samples: np.ndarray, **headers: str) -> Upload:
    shape = ",".join(map(str, samples.shape))
    content = samples.astype("<f4").tobytes()
    return upload(content, "application/octet-stream", X_Shape=shape, **headers)


def json(document: Any) -> Upload:
    content = orjson.dumps(document, default=np.ndarray.tolist)
    return upload(content, "application/json")


def npy(array: np.ndarray, **headers: str) -> Upload:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return upload(file.getvalue(), "application/x-npy", **headers)


def csv(samples: np.ndarray, names: list[str] | None = None, delimiter: str = ",") -> bytes:
    lines = [delimiter.join(names)] if names else []
    lines += [delimiter.join(map(repr, row)) for row in samples.tolist()]
    return ("\n".join(lines) + "\n").encode()


def record(
    digital: np.ndarray,
    leads: list[str],
    rate: str = "500",
    gain: str = "1000(0)/mV",
    name: str = "one",
    signal: str = "",
) -> list[tuple[str, bytes]]:
    """A WFDB record of 16-bit samples `[T, C]`: its header and its file. `signal`: what the header calls
    the file."""
    lines = [f"{name} {len(leads)} {rate} {len(digital)}"]
    for lead, samples in zip(leads, digital.T, strict=True):
        checksum = int(samples.astype(np.int64).sum()) & 0xFFFF
        file = signal or f"{name}.dat"
        lines.append(f"{file} 16 {gain} 16 0 {int(samples[0])} {checksum} 0 {lead}")
    content = digital.astype("<i2").tobytes()
    return [(f"{name}.hea", ("\n".join(lines) + "\n").encode()), (f"{name}.dat", content)]


def packed(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in files:
            archive.writestr(name, member)
    return content.getvalue()


def sound(
    waveform: np.ndarray, rate: int = 16000, container: str = "WAV", coding: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=container, subtype=coding)
    return file.getvalue()


def image(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    """`pixels`: uint8 `[rows, columns]` or with a last axis of colours."""
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, kind)
    return file.getvalue()
