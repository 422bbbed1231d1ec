"""How fast, and with how much memory, sounds become features: ours against plain calls of librosa.

Run as `python -m benchmarks.sound_features`, with OMP_NUM_THREADS set to the threads to measure. It
makes 500 clips of 10 s at 16 kHz in memory, computes spectrograms and features both ways in one
process, and exits with status 1 if ours is less than 4 times faster or a figure differs by more
than 1e-4 (relative to values beyond 1).
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator

import librosa
import numpy as np

from beatline.features.sound import FEATURES, MFCCS, ExtractFeatures, extract

SAMPLING_RATE, SECONDS, N_CLIPS, BLOCK = 16_000, 10, 500, 50
REQUIRED, TOLERANCE = 4, 1e-4
PARAMETERS = ExtractFeatures(
    channel="mean",
    sampling_rate=None,
    frame=1024,
    hop=512,
    bands=128,
    lowest_frequency=0,
    highest_frequency=None,
    top_db=80,
    contrast_bands=6,
)


def clips(number: int) -> Iterator[np.ndarray]:
    """So many clips `[samples]` float32: harmonics of a random pitch in noise, at random loudness."""
    moments = np.arange(SECONDS * SAMPLING_RATE, dtype=np.float32) / SAMPLING_RATE
    for seed in range(number):
        draw = np.random.default_rng(seed)
        noise = draw.standard_normal(len(moments), dtype=np.float32)
        pitch = np.float32(2 * np.pi * draw.uniform(20, 500))
        tones = sum(np.sin(pitch * harmonic * moments) / harmonic for harmonic in (1, 2, 5))
        yield np.float32(10 ** draw.uniform(-3, 0)) * (tones + np.float32(0.1) * noise)


def by_librosa(
    waveform: np.ndarray, rate: int, parameters: ExtractFeatures
) -> tuple[np.ndarray, np.ndarray]:
    """Spectrogram `[T, bands]` and features `[13]` of a clip, one call per feature, as one writes it."""
    frames = {"n_fft": parameters.frame, "hop_length": parameters.hop}
    spectrum = {"y": waveform, "sr": rate, **frames}
    mel = {
        "n_mels": parameters.bands,
        "fmin": parameters.lowest_frequency,
        "fmax": parameters.highest_frequency,
    }
    feature, bands = librosa.feature, parameters.contrast_bands
    level = feature.rms(y=waveform, frame_length=parameters.frame, hop_length=parameters.hop)
    crossings = feature.zero_crossing_rate(
        waveform, frame_length=parameters.frame, hop_length=parameters.hop
    )
    power = feature.melspectrogram(**spectrum, **mel)
    decibels = librosa.power_to_db(power, top_db=parameters.top_db)
    if parameters.top_db == 80:
        cepstrum = feature.mfcc(**spectrum, **mel, n_mfcc=13)
    else:
        cepstrum = feature.mfcc(S=decibels, n_mfcc=13)
    features = [
        level.mean(),
        level.std(),
        crossings.mean(),
        feature.spectral_centroid(**spectrum).mean(),
        feature.spectral_bandwidth(**spectrum).mean(),
        feature.spectral_rolloff(**spectrum).mean(),
        feature.spectral_contrast(**spectrum, n_bands=bands).mean(),
        *cepstrum.mean(axis=1)[:MFCCS],
    ]
    return decibels.T, np.array(features, dtype=np.float64)


def by_us(waveforms: Iterable[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Spectrograms and features `[N, 13]` of all clips."""
    batches = list(extract(waveforms, SAMPLING_RATE, PARAMETERS))
    spectrograms = [one for batch in batches for one in batch.spectrograms]
    return spectrograms, np.concatenate([batch.features for batch in batches])


def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Per value: absolute up to 1, relative beyond."""
    return np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))


def peak_memory(waveforms: list[np.ndarray]) -> float:
    """The most MB allocated at a time, besides the waveforms, while they are computed."""
    tracemalloc.start()
    for _ in extract(waveforms, SAMPLING_RATE, PARAMETERS):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def compare(waveforms: list[np.ndarray]) -> tuple[float, float, dict[str, float]]:
    """Seconds of librosa, seconds of ours, and the largest difference of each feature."""
    slow = fast = 0.0
    worst = np.zeros(len(FEATURES) + 1)
    for first in range(0, len(waveforms), BLOCK):  # in turn: a drift of the machine hits both
        block = waveforms[first : first + BLOCK]
        start = time.perf_counter()
        spectrograms, features = by_us(block)
        middle = time.perf_counter()
        theirs = [by_librosa(waveform, SAMPLING_RATE, PARAMETERS) for waveform in block]
        slow += time.perf_counter() - middle
        fast += middle - start
        for spectrogram, row, (expected, figures) in zip(
            spectrograms, features, theirs, strict=True
        ):
            found = [*difference(row, figures), difference(spectrogram, expected).max()]
            worst = np.maximum(worst, found)
    return slow, fast, dict(zip((*FEATURES, "spectrogram"), worst.tolist(), strict=True))


def main() -> int:
    """Print the tables; return the exit status."""
    waveforms = list(clips(N_CLIPS))
    by_librosa(waveforms[0], SAMPLING_RATE, PARAMETERS)  # librosa compiles at its first call
    by_us(waveforms[:1])
    slow, fast, worst = compare(waveforms)
    print(f"{N_CLIPS} clips of {SECONDS} s at {SAMPLING_RATE} Hz, {PARAMETERS.bands} mel bands")
    print(f"librosa {slow:.2f} s, ours {fast:.2f} s: {slow / fast:.1f} times faster")
    print("largest difference")
    for name, value in worst.items():
        print(f"  {name:20}{value:9.1e}")
    minutes = [np.concatenate(waveforms[:60])]
    print(
        f"peak memory: 100 clips {peak_memory(waveforms[:100]):.1f} MB, {N_CLIPS} clips "
        f"{peak_memory(waveforms):.1f} MB, one clip of 10 min {peak_memory(minutes):.1f} MB"
    )
    return 0 if slow / fast >= REQUIRED and max(worst.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
