"""A dynamical model of the heart that gives a 12-lead ECG.

The phase of the heart goes round a limit cycle once a beat, and each wave of the ECG is a Gaussian
of that phase (ECGSYN: McSharry, Clifford, Tarassenko, Smith 2003, IEEE Trans Biomed Eng 50:289,
https://doi.org/10.1109/TBME.2003.808805). The waves are those of the three components of the
heart's dipole (Sameni, Clifford, Jutten, Shamsollahi 2007, EURASIP J Adv Signal Process 2007:43407,
https://doi.org/10.1155/2007/43407). Here the cycle is written in seconds since the R peak instead
of radians, so that QRS keeps its width when the heart rate changes while repolarization stretches
with the cube root of the RR interval (Fridericia 1920). The dipole is projected to the eight
independent leads by Dower's matrix (Edenbrandt & Pahlm 1988, J Electrocardiol 21:361); leads III,
aVR, aVL and aVF follow from I and II.

Axes are Frank's: x to the left, y to the feet, z to the back. Times are in seconds, dipoles in mV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]

MODEL_RATE = 500  # Hz, PTB-XL's own rate of recording
DURATION = 10.0  # seconds
FLUTTER_CYCLE = 0.2  # seconds, 300 atrial beats a minute

# What one beat is made of: name, time of its peak at a heart rate of 60/min (s after the R peak),
# width (standard deviation, s), dipole (x, y, z, mV). Waves of zero are there for the findings.
NORMAL_WAVES: tuple[tuple[str, float, float, tuple[float, float, float]], ...] = (
    ("p_right", -0.160, 0.017, (0.015, 0.065, -0.045)),
    ("p_left", -0.128, 0.018, (0.050, 0.040, 0.035)),
    ("delta", -0.034, 0.015, (0.0, 0.0, 0.0)),
    ("necrosis", -0.014, 0.010, (0.0, 0.0, 0.0)),
    ("septal", -0.019, 0.0075, (-0.12, -0.07, -0.32)),
    ("free_wall", 0.000, 0.0085, (1.14, 0.62, -0.14)),
    ("posterior", 0.015, 0.0095, (0.15, 0.10, 0.92)),
    ("basal", 0.029, 0.008, (-0.17, -0.07, 0.20)),
    ("terminal", 0.050, 0.014, (0.0, 0.0, 0.0)),
    ("st", 0.120, 0.040, (0.015, 0.010, -0.045)),
    ("t_rise", 0.245, 0.050, (0.15, 0.11, -0.12)),
    ("t_fall", 0.280, 0.032, (0.12, 0.09, -0.10)),
    ("u", 0.460, 0.035, (0.01, 0.01, -0.012)),
)
WAVE = {name: index for index, (name, *_) in enumerate(NORMAL_WAVES)}
ATRIAL = slice(WAVE["p_right"], WAVE["p_left"] + 1)
QRS = slice(WAVE["delta"], WAVE["terminal"] + 1)
REPOLARIZATION = slice(WAVE["st"], WAVE["u"] + 1)
T_WAVE = slice(WAVE["t_rise"], WAVE["t_fall"] + 1)

# Leads I, II, V1 ... V6 from the dipole (x, y, z): Edenbrandt & Pahlm 1988.
DOWER = np.array(
    [
        (0.632, -0.235, 0.059),
        (0.235, 1.066, -0.132),
        (-0.515, 0.157, -0.917),
        (0.044, 0.164, -1.387),
        (0.882, 0.098, -1.277),
        (1.213, 0.127, -0.601),
        (1.125, 0.127, -0.086),
        (0.831, 0.076, 0.230),
    ]
)
# The twelve leads from the eight independent ones: Einthoven's and Goldberger's definitions.
TWELVE_FROM_EIGHT = np.zeros((12, 8))
TWELVE_FROM_EIGHT[:6, :2] = [(1, 0), (0, 1), (-1, 1), (-0.5, -0.5), (1, -0.5), (-0.5, 1)]
TWELVE_FROM_EIGHT[6:, 2:] = np.eye(6)

# The part of the time axis that one beat's waves reach, in seconds around its R peak: from the P
# wave of a long PR interval to the U wave of a slow heart.
BEFORE, AFTER = 0.50, 0.85


@dataclass
class Beat:
    """The waves of one beat, W of them, in the order of `NORMAL_WAVES`.

    `centres` and `widths` are `[W]`, in seconds at a heart rate of 60/min; `dipoles` is `[W, 3]`,
    in mV. The findings change a beat in place; take a `copy` before.
    """

    centres: Array
    widths: Array
    dipoles: Array

    def copy(self) -> Beat:
        return Beat(self.centres.copy(), self.widths.copy(), self.dipoles.copy())


@dataclass(frozen=True)
class Rhythm:
    """The rhythm that starts the beats.

    `heart_rate` is the mean ventricular rate in 1/min, `variability` the standard deviation of the
    RR intervals over their mean, `respiration_rate` in Hz. `atria` is "sinus", "fibrillation",
    "flutter" (RR intervals are whole flutter cycles) or "paced" (no P waves).
    `ventricular_ectopy` and `atrial_ectopy` are the probabilities that a beat is premature;
    `ectopic_every` (2: bigeminy, 3: trigeminy, 0: at random) makes every n-th beat a ventricular
    one. `av_block` is the degree of a block that drops beats: 0 (none), 2 or 3.
    """

    heart_rate: float = 70.0
    variability: float = 0.04
    respiration_rate: float = 0.25
    atria: str = "sinus"
    ventricular_ectopy: float = 0.0
    atrial_ectopy: float = 0.0
    ectopic_every: int = 0
    av_block: int = 0


@dataclass(frozen=True)
class Heartbeat:
    """One beat in time: when its R peak is and how long the RR interval before it was (s).

    `ectopic` beats start in the ventricles; `atrial` beats have a P wave, `ventricular` ones QRS
    and T.
    """

    time: float
    interval: float
    ectopic: bool = False
    atrial: bool = True
    ventricular: bool = True


def standard_beat() -> Beat:
    """The beat of `NORMAL_WAVES`."""
    return Beat(
        np.array([centre for _, centre, _, _ in NORMAL_WAVES]),
        np.array([width for _, _, width, _ in NORMAL_WAVES]),
        np.array([dipole for *_, dipole in NORMAL_WAVES]),
    )


def individual_beat(rng: Generator, age: float, male: bool) -> Beat:
    """The beat of one healthy person: axis, voltages and intervals vary with age and sex.

    The mean electrical axis turns to the left and voltages shrink with age; men have higher QRS and
    T voltages (Macfarlane et al. 2010, Comprehensive Electrocardiology).
    """
    beat = standard_beat()
    scale = np.exp(rng.normal(0, 0.13, (len(NORMAL_WAVES), 1)))
    beat.dipoles *= scale
    beat.dipoles += rng.normal(0, 0.07, beat.dipoles.shape) * np.linalg.norm(
        beat.dipoles, axis=1, keepdims=True
    )
    beat.dipoles[QRS] *= np.exp(rng.normal(0.05 * male - 0.003 * (age - 50), 0.20))
    beat.dipoles[ATRIAL] *= np.exp(rng.normal(0, 0.20))
    beat.dipoles[T_WAVE] *= np.exp(rng.normal(0.12 * male - 0.004 * (age - 45), 0.28))
    beat.dipoles[WAVE["st"]] *= rng.normal(0.7 + 0.6 * male, 0.5)

    axis = np.radians(rng.normal(0.45 * (50 - age), 17))
    depth = np.radians(rng.normal(0, 13))
    beat.dipoles[QRS] = turned(beat.dipoles[QRS], frontal=axis, horizontal=depth)
    beat.dipoles[REPOLARIZATION] = turned(
        beat.dipoles[REPOLARIZATION],
        frontal=0.5 * axis + np.radians(rng.normal(0, 8)),
        horizontal=np.radians(rng.normal(0, 14)),
    )

    stretch(beat, QRS, rng.normal(1.0 + 0.03 * male, 0.06))
    stretch(beat, REPOLARIZATION, rng.normal(1.0 + 0.02 * (not male), 0.035))
    beat.centres[ATRIAL] -= rng.normal(0.0004 * (age - 50), 0.015)
    return beat


def individual_torso(rng: Generator, weight: float) -> Array:
    """One person's `[12, 3]` matrix from dipole to leads.

    Dower's matrix with a gain that falls with body weight (kg) and, for the chest leads, electrodes
    that sit a little beside their places.
    """
    eight = DOWER * np.exp(rng.normal(-0.004 * (weight - 72), 0.10))
    eight = eight + rng.normal(0, 0.05, eight.shape) * np.array([0.5] * 2 + [1.5] * 6)[:, None]
    return TWELVE_FROM_EIGHT @ eight


def turned(dipoles: Array, frontal: float = 0.0, horizontal: float = 0.0) -> Array:
    """`dipoles` `[..., 3]` turned by two angles in radians.

    `frontal` turns from the left to the feet (a positive angle moves the electrical axis to the
    right), `horizontal` from the left to the back.
    """
    x, y, z = np.moveaxis(dipoles, -1, 0)
    x, y = np.cos(frontal) * x - np.sin(frontal) * y, np.sin(frontal) * x + np.cos(frontal) * y
    x, z = (
        np.cos(horizontal) * x - np.sin(horizontal) * z,
        np.sin(horizontal) * x + np.cos(horizontal) * z,
    )
    return np.stack((x, y, z), axis=-1)


def stretch(beat: Beat, waves: slice, factor: float) -> None:
    """Make `waves` of `beat` last `factor` times as long, from the R peak on."""
    beat.centres[waves] *= factor
    beat.widths[waves] *= factor


def frontal_axis(beat: Beat) -> float:
    """The mean electrical axis of QRS in the frontal plane, in degrees (normal: -30 to 90)."""
    x, y, _ = (beat.dipoles[QRS] * beat.widths[QRS, None]).sum(axis=0)
    return float(np.degrees(np.arctan2(y, x)))


def heartbeats(rhythm: Rhythm, rng: Generator) -> list[Heartbeat]:
    """The beats whose waves may fall into `DURATION` seconds, in the order of time."""
    if rhythm.av_block == 3:
        return _dissociated(rhythm, rng)
    next_interval = _intervals(rhythm, rng)
    has_p = rhythm.atria == "sinus"
    beats: list[Heartbeat] = []
    time, pause, count = float(-1 - rng.uniform(0, 60 / rhythm.heart_rate)), 1.0, 0
    while time < DURATION + BEFORE:
        interval = next_interval(time)
        premature = _prematurity(rhythm, rng, count)
        time += interval * pause * (premature or 1.0)
        ventricular_focus = premature > 0 and premature < 0.7
        dropped = rhythm.av_block == 2 and count % 3 == 2
        beats.append(
            Heartbeat(
                time,
                interval,
                ectopic=ventricular_focus,
                atrial=has_p and not ventricular_focus,
                ventricular=not dropped,
            )
        )
        # After a ventricular premature beat the sinus node keeps its time: a compensatory pause.
        pause = 2.0 - premature if ventricular_focus else 1.0
        count += 1
    return beats


def _prematurity(rhythm: Rhythm, rng: Generator, count: int) -> float:
    """How early the next beat comes, as a part of its interval: 0 if it is on time.

    Below 0.7 the focus is ventricular, above it is atrial.
    """
    chance, early = rng.random(2)
    due = rhythm.ectopic_every and count % rhythm.ectopic_every == 1
    if due or chance < rhythm.ventricular_ectopy:
        return 0.56 + 0.10 * early
    if chance < rhythm.ventricular_ectopy + rhythm.atrial_ectopy:
        return 0.72 + 0.10 * early
    return 0.0


def _intervals(rhythm: Rhythm, rng: Generator):
    """A function from time to the RR interval that starts there, in seconds.

    A sinus rhythm follows ECGSYN's bimodal spectrum: Mayer waves about 0.1 Hz and respiratory sinus
    arrhythmia at the respiration rate, each with half of the variance.
    """
    mean = 60 / rhythm.heart_rate
    if rhythm.atria == "fibrillation":
        return lambda time: max(0.33, mean * float(rng.lognormal(-0.02, 0.20)))
    if rhythm.atria == "flutter":
        cycles = max(2, round(mean / FLUTTER_CYCLE))
        return lambda time: FLUTTER_CYCLE * float(cycles)
    frequencies = np.append(rng.normal(0.1, 0.015, 4), rhythm.respiration_rate)
    amplitudes = np.append(np.full(4, np.sqrt(1 / 4)), 1.0) * rhythm.variability
    phases = np.append(rng.uniform(0, 2 * np.pi, 4), 0.0)

    def interval(time: float) -> float:
        waves = amplitudes * np.cos(2 * np.pi * frequencies * time + phases)
        return mean * max(0.5, 1 + float(waves.sum()))

    return interval


def _dissociated(rhythm: Rhythm, rng: Generator) -> list[Heartbeat]:
    """Third-degree AV block: P waves at the sinus rate, and QRS at an escape rate of their own."""
    escape = replace(rhythm, heart_rate=rng.uniform(35, 48), av_block=0)
    sinus = replace(rhythm, heart_rate=rng.uniform(75, 95), av_block=0)
    ventricles = [replace(beat, atrial=False) for beat in heartbeats(escape, rng)]
    atria = [replace(beat, ventricular=False) for beat in heartbeats(sinus, rng)]
    return sorted(ventricles + atria, key=lambda beat: beat.time)


def ectopic_beat(beat: Beat, rng: Generator) -> Beat:
    """A beat of `beat`'s heart that starts in the ventricles: wide QRS, discordant ST and T."""
    ectopic = beat.copy()
    focus = turned(
        np.array([1.3, 0.6, 0.3]), frontal=rng.uniform(0, 2 * np.pi), horizontal=rng.normal(0, 0.7)
    )
    ectopic.dipoles[:] = 0
    ectopic.dipoles[WAVE["free_wall"]] = 0.9 * focus
    ectopic.dipoles[WAVE["posterior"]] = turned(0.7 * focus, frontal=0.5, horizontal=0.4)
    ectopic.centres[WAVE["posterior"]] = 0.045
    ectopic.widths[QRS] = 0.024
    ectopic.dipoles[WAVE["st"]] = -0.15 * focus
    ectopic.dipoles[T_WAVE] = -0.22 * focus
    return ectopic


def dipole(beat: Beat, beats: list[Heartbeat], rhythm: Rhythm, rng: Generator) -> Array:
    """The heart's dipole over `DURATION` seconds at `MODEL_RATE`, as `[3, samples]` in mV."""
    ectopic = ectopic_beat(beat, rng) if any(item.ectopic for item in beats) else beat
    shapes = [ectopic if item.ectopic else beat for item in beats]
    centres = np.stack([shape.centres for shape in shapes])
    widths = np.stack([shape.widths for shape in shapes])
    dipoles = np.stack([shape.dipoles for shape in shapes])
    for index, item in enumerate(beats):
        slowness = min(item.interval, 1.5) ** (1 / 3)
        centres[index, REPOLARIZATION] *= slowness
        widths[index, REPOLARIZATION] *= slowness
        dipoles[index, ATRIAL] *= item.atrial
        dipoles[index, ATRIAL.stop :] *= item.ventricular
    times = np.array([item.time for item in beats])
    total = _sum_of_gaussians(times, centres, widths, dipoles)
    time = np.arange(total.shape[1]) / MODEL_RATE
    # Breathing moves the heart: QRS amplitudes follow it by a few per cent.
    total *= 1 + rng.uniform(0.01, 0.07) * np.cos(2 * np.pi * rhythm.respiration_rate * time)
    if rhythm.atria in ("fibrillation", "flutter"):
        total += _atrial_waves(rhythm, time, rng)
    return total


def _sum_of_gaussians(times: Array, centres: Array, widths: Array, dipoles: Array) -> Array:
    """`[3, samples]` from the R peaks `[B]` and the waves `[B, W]`, `[B, W]`, `[B, W, 3]`."""
    samples, window = round(DURATION * MODEL_RATE), round((BEFORE + AFTER) * MODEL_RATE)
    starts = np.floor((times - BEFORE) * MODEL_RATE).astype(int)
    since_peak = (starts[:, None] + np.arange(window)) / MODEL_RATE - times[:, None]
    # float32 is exact to well under a microvolt here, and its exponential is several times faster.
    offsets = (since_peak[:, None] - centres[..., None]).astype(np.float32)
    offsets *= (np.sqrt(0.5) / widths[..., None]).astype(np.float32)
    parts = dipoles.transpose(0, 2, 1).astype(np.float32) @ np.exp(-offsets * offsets)
    total = np.zeros((3, samples + 2 * window))
    for start, part in zip(starts + window, parts, strict=True):
        if 0 <= start <= samples + window:
            total[:, start : start + window] += part
    return total[:, window:-window]


def _atrial_waves(rhythm: Rhythm, time: Array, rng: Generator) -> Array:
    """The waves of fibrillating or fluttering atria, largest in V1 and in the inferior leads."""
    if rhythm.atria == "flutter":
        phase = time / FLUTTER_CYCLE + rng.random()
        wave = rng.uniform(0.08, 0.2) * (2 * np.abs(2 * (phase % 1) ** 1.5 - 1) - 1)
        return np.outer((0.05, -0.8, -0.3), wave)
    wander = np.cumsum(rng.normal(0, 0.035, time.size))
    phase = 2 * np.pi * rng.uniform(5.0, 7.5) * time + wander
    size = rng.uniform(0.015, 0.08) * (1 + 0.4 * np.sin(0.21 * phase))
    return np.outer((-0.2, 0.5, -0.9), size * (np.sin(phase) + 0.35 * np.sin(2 * phase)))
