"""Clips of simulated rotating machines in a factory, as 16-bit WAV files.

Every clip has a stream of random numbers of its own, so clip k of a machine is the same whatever the
number of clips. Operating conditions (speed, load, working cycle, levels) and the factory around vary
from clip to clip more than most faults change the sound, so neither level nor mean spectrum give an
anomaly away.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.fft import irfft
from numpy.random import Generator
from pydantic import Field
from scipy.io import wavfile

from beatline.common import parallel
from beatline.common.params import Parameters
from beatline.simulators.machines.factory import Factory, background, build_factory
from beatline.simulators.machines.faults import FAULTS
from beatline.simulators.machines.machines import (
    Array,
    Grid,
    Machine,
    Spectrum,
    amplitude,
    build_machine,
    normal_sound,
    operate,
    rms,
    stream,
)
from beatline.sources.timestamps import iso

LEVEL = -26.0  # of a machine in dB of full scale, before the clip's own level
LEVEL_RANGE = 4.0  # dB up and down, from clip to clip
CLIPS_A_TASK = 8  # that a process makes at a time
TRAIN, TEST_NORMAL, TEST_ANOMALY = 0, 1, 2  # keys of the streams of random numbers
FIRST_RECORDING = {
    "train": datetime(2024, 1, 1, tzinfo=UTC),
    "test": datetime(2024, 7, 1, tzinfo=UTC),
}
BETWEEN_RECORDINGS = timedelta(minutes=10)
BETWEEN_MACHINES = timedelta(minutes=1)


class Simulated(Parameters):
    """How many machines, and clips of each for training and test; `seconds` of a clip,
    `sampling_rate` in Hz, `snr`: of machine against factory in dB, taken in turn."""

    machines: int = Field(ge=1, le=100)
    train: int = Field(ge=1)
    test_normal: int = Field(ge=1)
    test_anomaly: int = Field(ge=1)
    seconds: float = Field(ge=0.1, le=600)
    sampling_rate: int = Field(ge=8000, le=192000)
    snr: list[float] = Field(min_length=1)
    seed: int = Field(ge=0)


@dataclass(frozen=True)
class Clip:
    """A recording: its file's name and content, and what is known of it. `fault` is empty if none."""

    record: str
    content: bytes
    samples: int
    machine_id: str
    fold: Literal["train", "test"]
    fault: str
    snr: float
    event_timestamp: str


def number_of_clips(parameters: Simulated) -> int:
    return parameters.machines * (
        parameters.train + parameters.test_normal + parameters.test_anomaly
    )


def simulate(parameters: Simulated) -> Iterator[Clip]:
    """All clips, machine by machine: training, then normal and anomalous ones of the test."""
    purposes = (
        (TRAIN, parameters.train),
        (TEST_NORMAL, parameters.test_normal),
        (TEST_ANOMALY, parameters.test_anomaly),
    )
    keys = [
        (number, purpose, k)
        for number in range(parameters.machines)
        for purpose, clips in purposes
        for k in range(clips)
    ]
    tasks = [keys[start : start + CLIPS_A_TASK] for start in range(0, len(keys), CLIPS_A_TASK)]
    for clips in parallel.ordered(partial(_clips, parameters=parameters), tasks):
        yield from clips


def _clips(keys: Sequence[tuple[int, int, int]], parameters: Simulated) -> list[Clip]:
    return [_clip(*key, parameters) for key in keys]


@lru_cache(maxsize=1)
def _factory(seed: int, grid: Grid) -> Factory:
    return build_factory(seed, grid)


@lru_cache(maxsize=1)
def _machine(number: int, seed: int, grid: Grid) -> Machine:
    return build_machine(number, seed, grid)


def _clip(number: int, purpose: int, k: int, parameters: Simulated) -> Clip:
    grid = Grid(round(parameters.seconds * parameters.sampling_rate), parameters.sampling_rate)
    factory = _factory(parameters.seed, grid)
    machine = _machine(number, parameters.seed, grid)
    fold: Literal["train", "test"] = "train" if purpose == TRAIN else "test"
    names = list(FAULTS)
    fault = names[k % len(names)] if purpose == TEST_ANOMALY else ""
    # Turned on by one after each round of the faults, so that each fault meets every ratio.
    snr = parameters.snr[(k + k // len(names)) % len(parameters.snr)]
    rng = stream(parameters.seed, number, purpose, k)
    sound = clip_sound(machine, factory, fault, snr, rng)
    pcm = np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2")
    file = io.BytesIO()
    wavfile.write(file, parameters.sampling_rate, pcm)
    folder = "normal" if fold == "train" else "test"
    word = "anomaly" if fault else "normal"
    # In the test normal and anomalous recordings take turns.
    turn = k if fold == "train" else 2 * k + (purpose == TEST_ANOMALY)
    time = FIRST_RECORDING[fold] + turn * BETWEEN_RECORDINGS + number * BETWEEN_MACHINES
    return Clip(
        record=f"{folder}/{word}_{machine.identity}_{k:08d}.wav",
        content=file.getvalue(),
        samples=len(pcm),
        machine_id=machine.identity,
        fold=fold,
        fault=fault,
        snr=snr,
        event_timestamp=iso(time),
    )


def clip_sound(machine: Machine, factory: Factory, fault: str, snr: float, rng: Generator) -> Array:
    """One clip `[samples]` in full scale of a machine with a fault, or none if `fault` is empty."""
    conditions = operate(machine, rng)
    healthy = normal_sound(machine, conditions, rng)
    sound = _heard(machine, healthy)
    level = rms(sound)
    hall = background(factory, rng)
    gain = amplitude(LEVEL + rng.uniform(-LEVEL_RANGE, LEVEL_RANGE)) / level
    if fault:
        make, mildest, worst = FAULTS[fault]
        added = _heard(machine, make(machine, conditions, rng))
        sound = sound + added * (level / rms(added) * amplitude(rng.uniform(mildest, worst)))
    hall *= level / rms(hall) * amplitude(-snr)
    return (sound + hall) * gain


def _heard(machine: Machine, spectrum: Spectrum) -> Array:
    """The sound at the microphone: through the room, without what came before the clip."""
    grid = machine.grid
    return irfft(spectrum * machine.room, grid.length)[-grid.samples :]
