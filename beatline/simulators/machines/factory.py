"""The hall around the machine: what a microphone in a factory hears besides.

As in MIMII (Purohit et al. 2019) the background of all machines and of all clips is that of the same
factory, in which others work: each neighbour is on or off and nearer or farther from clip to clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from beatline.simulators.machines.machines import Array, Grid, amplitude, noise, rms, stream

FACTORY = 1000  # key of its stream of random numbers, beyond those of the machines
NEIGHBOURS = 8
HARMONICS = 4  # of a neighbour's tone
HUMPS = (150.0, 7200.0)  # Hz, where the centres of the neighbours' noises lie
TONES = (80.0, 1200.0)  # Hz, where their fundamentals lie
TONE_LEVEL = 0.5  # amplitude of a partial against the neighbour's noise
WANDER = 0.01  # of a fundamental from clip to clip, up and down
NEIGHBOUR_LEVEL = (-3.0, 4.0)  # dB against the hall: mean and standard deviation
RUNNING = 0.5  # probability that a neighbour is on
BLOWS_PER_SECOND = 0.2
BLOW_LEVEL = (0.0, 9.0)  # dB against the rest of the hall while it lasts


@dataclass(frozen=True)
class Factory:
    """`noises`: amplitude spectra of the hall itself and its neighbours `[1 + NEIGHBOURS, F]`, each
    of mean square 1; `tones`: their fundamentals in Hz, `partials`: amplitudes of the harmonics;
    `modes`: frequencies in Hz of what is struck now and then."""

    noises: Array
    tones: Array
    partials: Array
    modes: Array
    grid: Grid


def build_factory(seed: int, grid: Grid) -> Factory:
    rng = stream(seed, FACTORY)
    frequencies = np.maximum(grid.frequencies, 30)
    centres = _spread(HUMPS, rng)
    widths = rng.uniform(0.2, 0.6, NEIGHBOURS)
    humps = np.exp(-0.5 * (np.log(frequencies / centres[:, None]) / widths[:, None]) ** 2)
    noises = np.concatenate(((frequencies / 500)[None] ** -0.7, humps + 0.01))
    return Factory(
        noises=noises / np.sqrt(np.mean(noises**2, axis=1, keepdims=True)),
        tones=_spread(TONES, rng),
        partials=rng.uniform(0, 1, (NEIGHBOURS, HARMONICS)) / np.arange(1, HARMONICS + 1),
        modes=rng.uniform(300, 0.4 * grid.sampling_rate, (3, 4)),
        grid=grid,
    )


def _spread(between: tuple[float, float], rng: Generator) -> Array:
    """A frequency for each neighbour, evenly drawn from octaves."""
    lowest, highest = np.log(between)
    return np.exp(rng.uniform(lowest, highest, NEIGHBOURS))


def background(factory: Factory, rng: Generator) -> Array:
    """The hall during one clip, `[samples]`, at any level."""
    grid = factory.grid
    on = rng.random(NEIGHBOURS) < RUNNING
    levels = amplitude(rng.normal(*NEIGHBOUR_LEVEL, NEIGHBOURS)) * on
    shape = np.sqrt(np.concatenate(([1.0], levels**2)) @ factory.noises**2)
    hall = noise(shape, grid.length, rng)[-grid.samples :]
    times = grid.times[: grid.samples]
    for number in np.flatnonzero(on):
        hall += TONE_LEVEL * levels[number] * _tone(factory, int(number), times, rng)
    level = rms(hall)
    for _ in range(int(rng.poisson(BLOWS_PER_SECOND * grid.samples / grid.sampling_rate))):
        hall += level * amplitude(rng.uniform(*BLOW_LEVEL)) * _blow(factory, times, rng)
    return hall


def _tone(factory: Factory, number: int, times: Array, rng: Generator) -> Array:
    """A neighbour's fundamental and harmonics, of about unit level; its speed is never the same."""
    speed = factory.tones[number] * rng.uniform(1 - WANDER, 1 + WANDER)
    phases = np.exp(1j * rng.uniform(0, 2 * np.pi, HARMONICS))
    turned = np.exp(2j * np.pi * speed * times)
    # A polynomial without constant term: the harmonics are powers of the fundamental.
    return np.polyval([*(factory.partials[number] * phases)[::-1], 0], turned).real


def _blow(factory: Factory, times: Array, rng: Generator) -> Array:
    """Something of metal that is struck: decaying modes."""
    modes = factory.modes[rng.integers(len(factory.modes))]
    since = times - rng.uniform(0, times[-1])
    decay = rng.uniform(0.02, 0.1)
    rings = since >= 0
    blow = np.zeros(len(times))
    blow[rings] = np.sin(2 * np.pi * modes[:, None] * since[rings]).mean(axis=0)
    blow[rings] *= np.exp(-since[rings] / decay)
    return blow
