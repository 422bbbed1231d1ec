"""Rotating machines: what they are built of, and the sound that they make when nothing is broken.

A machine has a shaft that carries a fan wheel, a pair of gears and a rolling-element bearing, in a
housing that resonates, in a hall that reverberates. Everything tied to the angle of the shaft is one
periodic force (residual unbalance and misalignment at the first multiples of the shaft speed, blades,
tooth mesh with side bands: Randall 2011, Vibration-based Condition Monitoring, chapter 2), the flow
is broadband noise that the blades modulate. Angles are in radians, frequencies in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.fft import irfft, rfft, rfftfreq
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]
Spectrum = NDArray[np.complexfloating]

GOLDEN_RATIO = (5**0.5 - 1) / 2
REVOLUTIONS = 2  # of the table of the shaft's force, so that half orders fit
TABLE = 8192  # its entries
FAST = 4096  # a Fourier transform of a small multiple of this is quick
WARM_UP = 0.3  # seconds before the clip, in which filters ring in and wrap round


@dataclass(frozen=True)
class Bearing:
    """A rolling-element bearing: `balls` of `ratio` = ball over pitch diameter at contact `angle`.

    The fault frequencies, as multiples of the shaft speed, are those of Randall & Antoni 2011
    (Mech. Syst. Signal Process. 25(2):485), for an outer ring that stands still.
    """

    balls: int
    ratio: float
    angle: float

    @property
    def outer(self) -> float:
        """Ball-pass order of the outer ring (BPFO)."""
        return self.balls / 2 * (1 - self.ratio * np.cos(self.angle))

    @property
    def inner(self) -> float:
        """Ball-pass order of the inner ring (BPFI)."""
        return self.balls / 2 * (1 + self.ratio * np.cos(self.angle))

    @property
    def cage(self) -> float:
        """Order of the cage (FTF)."""
        return (1 - self.ratio * np.cos(self.angle)) / 2

    @property
    def ball(self) -> float:
        """Order of a ball's spin (BSF); a defect of it strikes twice a turn, once each ring."""
        return (1 - (self.ratio * np.cos(self.angle)) ** 2) / (2 * self.ratio)


@dataclass(frozen=True)
class Grid:
    """The sampling of a clip: `samples` are kept of the `length` that are synthesised."""

    samples: int
    sampling_rate: int

    @property
    def length(self) -> int:
        """Samples with the warm-up before them, filled up to what is quickly transformed."""
        return -(-(self.samples + round(WARM_UP * self.sampling_rate)) // FAST) * FAST

    @property
    def frequencies(self) -> Array:
        return rfftfreq(self.length, 1 / self.sampling_rate)

    @property
    def times(self) -> Array:
        return np.arange(self.length) / self.sampling_rate


@dataclass(frozen=True)
class Machine:
    """One machine ID.

    The shaft turns at `speed` (Hz) and excites multiples of it: `orders`, with the `amplitudes` and
    `phases` of the force there; `kinds` tells shaft (0), blades (1) and gear (2) apart, whose levels
    are `tone_levels` in dB. `flow` is the amplitude spectrum of the flow noise, `flow_level` its level
    in dB, `flow_modulation` the share that the shaft modulates. `housing`: response from a force to
    the sound, `bearing_housing`: from a blow on the bearing, `room`: of the hall, all of them on the
    frequencies of `grid`. `jet_peak`: where a leak is loudest, in Hz. `cycle`: frequency of the working
    cycle in Hz, `cycle_depth`: how far it swings the load (0 to 1).
    """

    identity: str
    speed: float
    bearing: Bearing
    orders: Array
    amplitudes: Array
    phases: Array
    kinds: Array
    tone_levels: Array
    housing: Spectrum
    bearing_housing: Spectrum
    flow: Array
    flow_level: float
    flow_modulation: float
    jet_peak: float
    room: Spectrum
    cycle: float
    cycle_depth: float
    grid: Grid


@dataclass(frozen=True)
class Conditions:
    """How a machine is run while it is recorded: `angle` of the shaft and `load` (0 to 1) over time,
    `speed` as a multiple of the nominal one, and levels in dB of tones (shaft, blades, gear) and flow.
    """

    angle: Array
    load: Array
    speed: float
    tone_levels: Array
    flow_level: float


def stream(seed: int, *key: int) -> Generator:
    """The random numbers of one machine or clip, told apart by `key`."""
    return Generator(PCG64(SeedSequence(entropy=seed, spawn_key=key)))


def amplitude(decibels: ArrayLike) -> Array:
    """The factor of a level in dB."""
    return 10.0 ** (np.asarray(decibels, float) / 20)


def rms(signal: Array) -> float:
    return float(np.sqrt(np.mean(np.square(signal))))


# ----------------------------------------------------------------------------------- the machine


def build_machine(number: int, seed: int, grid: Grid) -> Machine:
    """Machine `number` of a series; machines of one series differ audibly in all that they are."""
    rng = stream(seed, number)
    position = (stream(seed).random() + number * GOLDEN_RATIO) % 1
    orders, amplitudes, kinds = _forces(rng)
    modes = np.sort(np.exp(rng.uniform(np.log(180), np.log(0.4 * grid.sampling_rate), 7)))
    bearing_modes = rng.uniform(0.12, 0.38, 2) * grid.sampling_rate
    return Machine(
        identity=f"id_{number:02d}",
        speed=19 + 24 * position,
        bearing=Bearing(
            int(rng.integers(7, 13)), rng.uniform(0.18, 0.3), np.deg2rad(rng.uniform(0, 15))
        ),
        orders=orders,
        amplitudes=amplitudes,
        phases=rng.uniform(0, 2 * np.pi, len(orders)),
        kinds=kinds,
        tone_levels=rng.uniform(-3, 3, 3),
        housing=_resonances(grid, modes, rng.uniform(0.01, 0.05, 7), rng.uniform(0.5, 1.5, 7)),
        bearing_housing=_resonances(grid, bearing_modes, rng.uniform(0.02, 0.05, 2), np.ones(2)),
        flow=_flow_spectrum(grid, rng),
        flow_level=rng.uniform(-3, 3),
        flow_modulation=rng.uniform(0.1, 0.4),
        jet_peak=rng.uniform(0.2, 0.4) * grid.sampling_rate,
        room=_room(grid, rng),
        cycle=rng.uniform(0.5, 2.0),
        cycle_depth=rng.uniform(0.1, 0.5),
        grid=grid,
    )


def _forces(rng: Generator) -> tuple[Array, Array, Array]:
    """Orders, amplitudes and kinds (0 shaft, 1 blades, 2 gear) of the shaft-locked force."""
    blades, teeth = int(rng.integers(5, 12)), int(rng.integers(21, 48))
    rows = [(order, 1 / order**1.2, 0) for order in range(1, 9)]
    rows += [(blades * multiple, 1 / multiple, 1) for multiple in range(1, 6)]
    for multiple in range(1, 4):
        for side, share in ((0, 1.0), (-1, 0.3), (1, 0.3), (-2, 0.1), (2, 0.1)):
            rows.append((teeth * multiple + side, share / multiple, 2))
    table = np.array(rows)
    return table[:, 0], table[:, 1] * np.exp(rng.normal(0, 0.4, len(rows))), table[:, 2]


def _resonances(grid: Grid, modes: Array, damping: Array, gains: Array) -> Spectrum:
    """Acceleration per force of a structure with these modes, of mean square 1."""
    ratio = grid.frequencies[:, None] / modes
    response = (gains * ratio**2 / (1 - ratio**2 + 2j * damping * ratio)).sum(axis=1)
    return response / np.sqrt(np.mean(np.abs(response) ** 2))


def _flow_spectrum(grid: Grid, rng: Generator) -> Array:
    """Broadband noise that falls with the frequency, with a broad hump where the duct resonates."""
    frequencies = np.maximum(grid.frequencies, 20)
    slope = rng.uniform(0.3, 0.8)
    centre, width = np.exp(rng.uniform(np.log(300), np.log(3000))), rng.uniform(0.3, 0.8)
    hump = 1 + rng.uniform(1, 3) * np.exp(-0.5 * (np.log(frequencies / centre) / width) ** 2)
    return hump * (frequencies / 1000) ** -slope


def _room(grid: Grid, rng: Generator) -> Spectrum:
    """Response from the machine to the microphone: direct sound and a tail that decays as noise
    (Polack 1993, Applied Acoustics 38:235)."""
    reverberation, direct_to_tail = rng.uniform(0.2, 0.5), rng.uniform(0, 8)
    tail = rng.normal(size=grid.length) * 10 ** (-3 * grid.times / reverberation)
    tail *= amplitude(-direct_to_tail) / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return rfft(tail)


# -------------------------------------------------------------------------- the machine at work


def operate(machine: Machine, rng: Generator) -> Conditions:
    """Draw how the machine is run in one clip: speed within 6 %, load from a half to full."""
    times = machine.grid.times
    speed, mean_load = rng.uniform(0.94, 1.06), rng.uniform(0.5, 1.0)
    phase = rng.uniform(0, 2 * np.pi)
    swing = np.sin(2 * np.pi * machine.cycle * rng.uniform(0.9, 1.1) * times + phase)
    load = mean_load * (1 + machine.cycle_depth * swing) / (1 + machine.cycle_depth)
    # The speed sags under load (slip of an induction motor) and wanders a little.
    wander = 0.002 * np.sin(2 * np.pi * rng.uniform(0.1, 0.7) * times + rng.uniform(0, 6.28))
    rotation = machine.speed * speed * (1 + wander - 0.02 * load)
    angle = 2 * np.pi * np.cumsum(rotation) / machine.grid.sampling_rate + rng.uniform(0, 6.28)
    return Conditions(
        angle=angle,
        load=load,
        speed=speed,
        tone_levels=rng.normal(0, 1.5, 3),
        flow_level=rng.normal(0, 1.5),
    )


def tones(machine: Machine, conditions: Conditions) -> Array:
    """The force table `[TABLE]` over REVOLUTIONS turns of the shaft.

    Tooth mesh grows with the load, unbalance with the square of the speed, blade noise with its
    third power. Orders above the Nyquist frequency are left out.
    """
    load = float(conditions.load.mean())
    grows = np.array([40 * np.log10(conditions.speed), 60 * np.log10(conditions.speed),
                      12 * (load - 0.75)])  # fmt: skip
    levels = machine.tone_levels + conditions.tone_levels + grows
    amplitudes = machine.amplitudes * amplitude(levels)[machine.kinds.astype(int)]
    return force_table(machine, conditions, machine.orders, amplitudes, machine.phases)


def force_table(
    machine: Machine, conditions: Conditions, orders: Array, amplitudes: Array, phases: Array
) -> Array:
    """One period `[TABLE]` of a force with these orders of the shaft, aliases left out."""
    highest = 0.45 * machine.grid.sampling_rate / (machine.speed * conditions.speed)
    spectrum = np.zeros(TABLE // 2 + 1, complex)
    kept = orders < min(highest, TABLE // 2 / REVOLUTIONS)
    bins = np.rint(orders[kept] * REVOLUTIONS).astype(int)
    np.add.at(spectrum, bins, amplitudes[kept] * np.exp(1j * phases[kept]))
    return irfft(spectrum, TABLE) * TABLE / 2


def turned(table: Array, angle: Array) -> Array:
    """A force table `[TABLE]` read along the angle of the shaft."""
    position = angle * (TABLE / (2 * np.pi * REVOLUTIONS))
    whole = position.astype(np.int64)
    fraction = position - whole
    first = table[whole % TABLE]
    return first + fraction * (table[(whole + 1) % TABLE] - first)


def noise(shape: Array | Spectrum, length: int, rng: Generator) -> Array:
    """Gaussian noise `[length]` with the amplitude spectrum `shape`, of unit level where that is 1."""
    white = rng.standard_normal((2, length // 2 + 1))
    return irfft((white[0] + 1j * white[1]) * shape, length) * np.sqrt(length / 2)


def normal_sound(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """The spectrum of the machine's sound when nothing is broken, before the room."""
    grid = machine.grid
    force = turned(tones(machine, conditions), conditions.angle)
    flow = noise(machine.flow, grid.length, rng)
    flow *= 1 + machine.flow_modulation * np.cos(conditions.angle)
    # Power of flow noise goes with the fifth power of the speed (Madison's fan laws).
    level = machine.flow_level + conditions.flow_level + 50 * np.log10(conditions.speed)
    load = 0.5 + 0.5 * conditions.load
    return rfft(force * load) * machine.housing + rfft(flow * load) * amplitude(level)
