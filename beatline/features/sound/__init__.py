"""Log-mel spectrograms and 13 statistical features of sounds, from one STFT.

Every figure is defined as in librosa 0.11 with its defaults (Hann window, centred frames padded with
zeros, Slaney's mel scale) and equals librosa's to 1e-4; see the tests. librosa transforms the clip
anew for each feature. Here a clip is transformed once, in batches of frames that stay in the
processor's cache; the transform itself is in float64 as librosa's is, because in float32 the quiet
bands beside a pure tone drown in rounding errors. A clip is computed without regard to the clips
around it: its result does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import scipy.fft
from pydantic import Field, model_validator
from scipy.sparse import csr_array
from tqdm import tqdm

from beatline.common import parallel
from beatline.common.errors import UserError, warn
from beatline.common.params import AtLeastOne, Parameters
from beatline.features import Recorded
from beatline.features.sound.mel import centre_frequencies, filter_bank
from beatline.features.tables import write_recordings, write_tables
from beatline.formats.audio import Channel

MFCCS = 6
FEATURES = (
    "rms_mean",
    "rms_std",
    "zcr_mean",
    "spectral_centroid",
    "spectral_bandwidth",
    "spectral_rolloff",
    "spectral_contrast",
    *(f"mfcc_{number}" for number in range(MFCCS)),
)

# librosa's defaults, part of the definition of the features.
ROLLOFF = 0.85  # of the sum of magnitudes lies below the roll-off frequency
CONTRAST_FROM = 200.0  # Hz: the lowest band of spectral contrast reaches up to here
CONTRAST_QUANTILE = 0.02  # of a band's bins make its peak, and as many its valley
CONTRAST_TOP_DB = 80.0
LEAST_POWER = 1e-10  # what is taken for zero by a logarithm
LEAST_AMPLITUDE = np.float32(1e-10)  # what has no sign

SAMPLES_AT_ONCE = 1 << 17  # of all frames that are transformed together: 1 MB in float64
FRAMES_AT_ONCE = 1 << 13  # so many frames make a batch of clips
SAMPLES_A_TASK = 1 << 20  # of the clips that a process is given at a time
LOUDEST = 1e12  # beyond it the power of a spectrum may overflow float32


class ExtractFeatures(Parameters):
    """How sounds become spectrograms and features.

    `channel`: `mean` of all, or one, counted from 1; `sampling_rate` in Hz, None for the recordings'
    own; `frame`, `hop` in samples; `bands` of mel between `lowest_frequency` and `highest_frequency`
    in Hz (None: half the sampling rate);
    `top_db`: what lies further below a clip's loudest mel band is raised to there, for the
    spectrogram and the MFCCs (80 is librosa's default, None leaves all as it is); `contrast_bands`:
    octaves of spectral contrast, from 200 Hz upwards (6 is librosa's default).
    """

    channel: Channel
    sampling_rate: AtLeastOne | None
    frame: Annotated[int, Field(ge=2)]
    hop: AtLeastOne
    bands: Annotated[int, Field(ge=MFCCS)]
    lowest_frequency: Annotated[float, Field(ge=0)]
    highest_frequency: Annotated[float, Field(gt=0)] | None
    top_db: Annotated[float, Field(ge=0)] | None
    contrast_bands: AtLeastOne

    @model_validator(mode="after")
    def _fit_together(self) -> ExtractFeatures:
        if self.hop > self.frame:
            raise ValueError(
                f"hop ({self.hop}) may not exceed frame ({self.frame}): samples would be left out"
            )
        if self.highest_frequency is not None and self.highest_frequency <= self.lowest_frequency:
            raise ValueError("highest_frequency must exceed lowest_frequency")
        return self


@dataclass(frozen=True)
class Extracted:
    """The features of B clips: `spectrograms`, of each `[T, bands]` float32, the power of T frames
    in decibels relative to 1; `features` `[B, 13]` float64 in the order of FEATURES."""

    spectrograms: list[np.ndarray]
    features: np.ndarray


def extract(
    waveforms: Iterable[np.ndarray], sampling_rate: int, parameters: ExtractFeatures
) -> Iterator[Extracted]:
    """Spectrograms and features of clips `[samples]` of any lengths, in batches of clips, in order.

    In memory are one waveform, the spectrograms of a batch (at least 8,192 frames; that of a longer
    clip twice) and a few MB. Raises UserError if the sampling rate does not go with the parameters, or a
    clip is empty or not finite.
    """
    yield from _extracted(waveforms, _Analysis(sampling_rate, parameters), 1)


def _extracted(
    waveforms: Iterable[np.ndarray], analysis: _Analysis, first: int
) -> Iterator[Extracted]:
    """Extract like `extract`; messages count the clips from `first` on."""
    spectrograms: list[np.ndarray] = []
    features: list[np.ndarray] = []
    for number, waveform in enumerate(waveforms, first):
        spectrogram, row = analysis.of(_checked(waveform, number))
        spectrograms.append(spectrogram)
        features.append(row)
        if sum(map(len, spectrograms)) >= FRAMES_AT_ONCE:
            yield Extracted(spectrograms, np.stack(features))
            spectrograms, features = [], []
    if spectrograms:
        yield Extracted(spectrograms, np.stack(features))


def write(folder: Path, recorded: Recorded, parameters: ExtractFeatures) -> dict[str, Any]:
    """Write the tables of features, and the spectrograms as `recordings`, one batch in memory at a
    time; a clip that is shorter than the longest one is repeated until its spectrogram is as long.

    Returns what the spectrograms are: their channels, unit, frames per second and how they are made.
    """
    if not hasattr(recorded.module, "read_waveforms"):
        raise UserError(
            "kind is sound, which only recordings of a data set of module sound are: correct one of the "
            "two, or take the data set out of extract_features"
        )
    rate = parameters.sampling_rate or int(recorded.description["sampling_rate"])
    names = recorded.table["record"].astype(str).to_list()
    samples = recorded.module.longest(recorded.pack, names, rate)
    length = 1 + (samples + 2 * (parameters.frame // 2) - parameters.frame) // parameters.hop
    rows: list[np.ndarray] = []
    work = partial(
        _measured,
        read=partial(
            recorded.module.read_waveforms, sampling_rate=rate, channel=parameters.channel
        ),
        analysis=_Analysis(rate, parameters),
    )
    size = max(1, SAMPLES_A_TASK // samples)
    tasks = (
        _Files(first + 1, {name: bytes(recorded.pack.read(name)) for name in few})
        for first in range(0, len(names), size)
        if (few := names[first : first + size])
    )

    def spectrograms() -> Iterator[np.ndarray]:
        results = parallel.ordered(work, tasks, total=-(-len(names) // size))
        with tqdm(
            total=len(names), desc="extract features", mininterval=10, unit=" records"
        ) as shown:
            for extracted in (batch for batches in results for batch in batches):
                rows.append(extracted.features)
                yield np.stack([repeated(clip, length) for clip in extracted.spectrograms])
                shown.update(len(extracted.spectrograms))

    write_recordings(folder, spectrograms(), recorded.table)
    table = recorded.table[["record", "machine_id", "event_timestamp"]].assign(
        event_timestamp=pd.to_datetime(
            recorded.table["event_timestamp"], utc=True, format="ISO8601"
        )
    )
    measured = pd.DataFrame(np.concatenate(rows), columns=list(FEATURES))
    write_tables(folder, pd.concat([table, measured], axis=1))
    highest = rate / 2 if parameters.highest_frequency is None else parameters.highest_frequency
    centres = centre_frequencies(parameters.bands, parameters.lowest_frequency, highest)
    return {
        "channels": [f"mel band {band} ({hz:.0f} Hz)" for band, hz in enumerate(centres, 1)],
        "sampling_rate": rate / parameters.hop,
        "unit": "dB",
        "representation": {"kind": "sound", **parameters.model_dump(), "sampling_rate": rate},
    }


@dataclass(frozen=True)
class _Files:
    """Recordings' files for another process, which has no pack: their content by name, and what number
    the `first` has in the data set."""

    first: int
    contents: dict[str, bytes]

    def read(self, name: str) -> bytes:
        return self.contents[name]


def _measured(
    files: _Files,
    read: Callable[[_Files, Sequence[str]], Iterator[np.ndarray]],
    analysis: _Analysis,
) -> list[Extracted]:
    """Extract the features of all `files`."""
    return list(_extracted(read(files, list(files.contents)), analysis, files.first))


def repeated(spectrogram: np.ndarray, length: int) -> np.ndarray:
    """`[length, bands]` of a shorter spectrogram: machines go on as they do."""
    return np.pad(spectrogram, ((0, length - len(spectrogram)), (0, 0)), mode="wrap")


def _checked(waveform: np.ndarray, number: int) -> np.ndarray:
    """The waveform as float32. UserError if there is nothing that can be transformed."""
    if not len(waveform):
        raise UserError(f"recording number {number} has no samples: remove it from the source")
    loudest = max(float(waveform.max()), -float(waveform.min()))
    if not loudest <= LOUDEST:  # NaN compares as false
        raise UserError(
            f"recording number {number} has samples that are not finite, or beyond {LOUDEST:g}: "
            f"remove it from the source"
        )
    return np.asarray(waveform, dtype=np.float32)


class _Analysis:
    """All that depends on the sampling rate and the parameters alone, and what it makes of a clip."""

    def __init__(self, sampling_rate: int, parameters: ExtractFeatures) -> None:
        self.frame, self.hop, self.top_db = parameters.frame, parameters.hop, parameters.top_db
        self.bands, self.padding = parameters.bands, self.frame // 2
        self.frames_at_once = max(1, SAMPLES_AT_ONCE // self.frame)
        # A periodic Hann window.
        self.window = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, self.frame + 1)[:-1])
        # Kept from clip to clip: memory that is asked for anew must be cleared anew.
        self.windowed = np.empty((self.frames_at_once, self.frame))
        self.spectrum = np.empty((self.frames_at_once, self.frame // 2 + 1), dtype=np.complex128)
        self.frequencies = np.fft.rfftfreq(self.frame, 1 / sampling_rate)
        self.contrast_bands = _contrast_bands(self.frequencies, sampling_rate, parameters)
        # Sparse: faster than dense, and free of the threads of a BLAS, which change the last bits.
        self.mel = csr_array(_mel_filters(self.frequencies, sampling_rate, parameters))

    def of(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The spectrogram `[T, bands]` and the features `[13]` of a clip `[samples]`."""
        n_frames = 1 + (len(waveform) + 2 * self.padding - self.frame) // self.hop
        spectrogram = np.empty((n_frames, self.bands), dtype=np.float32)
        per_frame = np.empty((n_frames, 5))  # root mean square to roll-off, as in FEATURES
        extremes = np.empty((n_frames, 2, len(self.contrast_bands)))
        for first in range(0, n_frames, self.frames_at_once):
            part = slice(first, min(first + self.frames_at_once, n_frames))
            frames = self._frames(waveform, part)
            magnitudes = self._magnitudes(frames)
            spectrogram[part] = (self.mel @ np.square(magnitudes).T).T
            per_frame[part, 0] = _root_mean_square(frames)
            per_frame[part, 1] = self._zero_crossing_rate(waveform, part)
            per_frame[part, 2:4] = _centroid_and_bandwidth(magnitudes, self.frequencies)
            per_frame[part, 4] = _rolloff(magnitudes, self.frequencies)
            extremes[part] = _valleys_and_peaks(magnitudes, self.contrast_bands)
        spectrogram = _decibels(spectrogram, self.top_db)
        means = per_frame.mean(axis=0)
        valleys, peaks = (_decibels(extremes[:, end], CONTRAST_TOP_DB) for end in (0, 1))
        # A DCT is linear: that of the mean frame is the mean of all frames' MFCCs.
        cepstrum = scipy.fft.dct(spectrogram.mean(axis=0, dtype=np.float64), norm="ortho")
        contrast = (peaks - valleys).mean()
        row = [means[0], per_frame[:, 0].std(), *means[1:], contrast, *cepstrum[:MFCCS]]
        return spectrogram, np.array(row)

    def _frames(self, waveform: np.ndarray, part: slice) -> np.ndarray:
        """The frames of `part`, `[B, frame]`, with zeros beyond both ends of the clip."""
        start = part.start * self.hop - self.padding
        stop = (part.stop - 1) * self.hop - self.padding + self.frame
        inside = waveform[max(start, 0) : stop]
        ends = (max(-start, 0), max(stop - len(waveform), 0))
        padded = np.pad(inside.astype(np.float64), ends)
        return np.lib.stride_tricks.sliding_window_view(padded, self.frame)[:: self.hop]

    def _magnitudes(self, frames: np.ndarray) -> np.ndarray:
        """Return the magnitudes `[B, F]` float32 of the spectra of frames `[B, frame]`."""
        windowed = np.multiply(frames, self.window, out=self.windowed[: len(frames)])
        spectrum = np.fft.rfft(windowed, out=self.spectrum[: len(frames)])
        return np.abs(spectrum.astype(np.complex64))

    def _zero_crossing_rate(self, waveform: np.ndarray, part: slice) -> np.ndarray:
        """Changes of sign per sample in each frame of `part`, `[B]`; none beyond the clip's ends."""
        first = np.arange(part.start, part.stop) * self.hop - self.padding
        last = np.minimum(first + self.frame, len(waveform)) - 1
        first = np.maximum(first, 0)
        negative = waveform[first[0] : last[-1] + 1] < -LEAST_AMPLITUDE
        crossings = first[0] + np.flatnonzero(negative[1:] != negative[:-1])
        return (crossings.searchsorted(last) - crossings.searchsorted(first)) / self.frame


def _mel_filters(
    frequencies: np.ndarray, sampling_rate: int, parameters: ExtractFeatures
) -> np.ndarray:
    """The filter bank `[bands, F]`; UserError beyond half the sampling rate."""
    nyquist = sampling_rate / 2
    highest = nyquist if parameters.highest_frequency is None else parameters.highest_frequency
    if highest > nyquist or parameters.lowest_frequency >= highest:
        raise UserError(
            f"the mel bands from {parameters.lowest_frequency:g} to {highest:g} Hz of extract_features "
            f"must lie below {nyquist:g} Hz, half the sampling rate: correct lowest_frequency or "
            f"highest_frequency (null for the half)"
        )
    filters = filter_bank(frequencies, parameters.bands, parameters.lowest_frequency, highest)
    if empty := int(np.count_nonzero(filters.max(axis=1) == 0)):
        warn(
            f"{empty} of {parameters.bands} mel bands fall between two frequencies of the transform "
            f"and hold nothing: raise frame or lower bands of extract_features"
        )
    return filters


def _contrast_bands(
    frequencies: np.ndarray, sampling_rate: int, parameters: ExtractFeatures
) -> list[tuple[slice, int]]:
    """Per band of spectral contrast, its bins and how many of them make its peak and its valley.

    The bands overlap by a bin and the last one reaches to the end, as in librosa. Raises UserError
    if a band lies beyond half the sampling rate or between two bins.
    """
    edges = [0.0, *(CONTRAST_FROM * 2.0**octave for octave in range(parameters.contrast_bands + 1))]
    if edges[-2] >= sampling_rate / 2:
        raise UserError(
            f"{parameters.contrast_bands} octaves of spectral contrast, from {CONTRAST_FROM:g} Hz up, "
            f"need a sampling rate above {2 * edges[-2]:g} Hz, not {sampling_rate}: lower "
            f"contrast_bands of extract_features"
        )
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        last = number == parameters.contrast_bands
        if not len(inside) or (number == 0 and len(inside) == 1):
            raise UserError(
                f"frames of {parameters.frame} samples at {sampling_rate} Hz do not resolve the band "
                f"from {low:g} to {high:g} Hz of spectral contrast: raise frame of extract_features"
            )
        start = inside[0] - (number > 0)
        stop = len(frequencies) if last else inside[-1] + 1
        counted = max(1, int(np.rint(CONTRAST_QUANTILE * (stop - start))))
        bands.append((slice(int(start), int(stop if last else stop - 1)), counted))
    return bands


def _root_mean_square(frames: np.ndarray) -> np.ndarray:
    """Return the root mean square `[B]` of frames `[B, frame]`."""
    return np.sqrt(np.vecdot(frames, frames) / frames.shape[1])


def _centroid_and_bandwidth(magnitudes: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the frequencies, weighted by magnitudes `[B, F]`: `[B, 2]` in Hz.

    0 for silence.
    """
    weights = magnitudes.astype(np.float64)
    total = weights.sum(axis=1)
    total = np.where(total < np.finfo(np.float32).tiny, 1, total)
    centroid = np.vecdot(weights, frequencies) / total
    variance = np.maximum(np.vecdot(weights, frequencies**2) / total - centroid**2, 0)
    return np.stack([centroid, np.sqrt(variance)], axis=1)


def _rolloff(magnitudes: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The lowest frequency up to which ROLLOFF of the magnitudes `[B, F]` lie, `[B]` in Hz.

    Summed in float32, bin by bin, as librosa does: otherwise it may be the next bin.
    """
    sums = np.cumsum(magnitudes, axis=1)
    below = np.count_nonzero(sums < ROLLOFF * sums[:, -1:], axis=1)
    return frequencies[below]


def _valleys_and_peaks(magnitudes: np.ndarray, bands: list[tuple[slice, int]]) -> np.ndarray:
    """Means of the lowest and of the highest magnitudes `[B, F]` of each band, `[B, 2, bands]`.

    After Jiang et al., Music type classification by spectral contrast feature (ICME 2002).
    """
    extremes = np.empty((len(magnitudes), 2, len(bands)))
    for number, (bins, counted) in enumerate(bands):
        ordered = np.sort(magnitudes[:, bins], axis=1)
        extremes[:, 0, number] = ordered[:, :counted].mean(axis=1)
        extremes[:, 1, number] = ordered[:, -counted:].mean(axis=1)
    return extremes


def _decibels(power: np.ndarray, top_db: float | None) -> np.ndarray:
    """10 log10 of the power of a whole clip, at most `top_db` below its maximum."""
    decibels = np.maximum(power, LEAST_POWER)
    np.log10(decibels, out=decibels)  # in place: the spectrogram of an hour is 60 MB
    decibels *= 10
    if top_db is not None:
        np.maximum(decibels, decibels.max() - top_db, out=decibels)
    return decibels
