"""Simulated machines: the same clips from the same seed, and faults that sound as their models say."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import hilbert, welch
from sklearn.metrics import roc_auc_score

from beatline.simulators.machines.factory import build_factory
from beatline.simulators.machines.faults import FAULTS
from beatline.simulators.machines.machines import (
    Bearing,
    Conditions,
    Grid,
    Machine,
    build_machine,
    operate,
    rms,
    stream,
)
from beatline.simulators.machines.simulator import Clip, Simulated, clip_sound, simulate
from tests.pools import leave_to_others

RATE = 16000
GRID = Grid(2 * RATE, RATE)
QUIET = 200.0  # dB: a factory that cannot be heard


def clips(**changes: Any) -> list[Clip]:
    block = {"machines": 2, "train": 2, "test_normal": 2, "test_anomaly": 3, "seconds": 0.25,
             "sampling_rate": RATE, "snr": [-6.0, 6.0], "seed": 3, **changes}  # fmt: skip
    return list(simulate(Simulated.model_validate(block)))


def spectrum(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and amplitudes of a signal under a Hann window."""
    amplitudes = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return np.fft.rfftfreq(len(signal), 1 / RATE), amplitudes


def rotation(conditions: Conditions) -> float:
    """The mean shaft speed in Hz."""
    angle = conditions.angle
    return (angle[-1] - angle[0]) / (2 * np.pi) / ((len(angle) - 1) / RATE)


def fault_alone(name: str, number: int = 0) -> tuple[np.ndarray, Machine, Conditions]:
    """The sound of a fault without its machine, room or factory."""
    machine = build_machine(number, 1, GRID)
    conditions = operate(machine, stream(1, 5))
    made = FAULTS[name][0](machine, conditions, stream(1, 6))
    return np.fft.irfft(made, GRID.length), machine, conditions


def test_clips_do_not_depend_on_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clip k of a machine is the same, byte for byte, in a larger set, and by other processes; another
    seed gives others."""
    few = {clip.record: clip for clip in clips()}
    leave_to_others(monkeypatch)
    many = {clip.record: clip for clip in clips(machines=3, train=3, test_normal=4, test_anomaly=5)}
    assert len(few) == 14 and all(many[record] == clip for record, clip in few.items())
    other = {clip.record: clip.content for clip in clips(seed=4)}
    assert all(other[record] != clip.content for record, clip in few.items())


def test_clips_are_whole_recordings() -> None:
    """16-bit mono of the asked length, at a level that neither clips nor vanishes."""
    for clip in clips(snr=[-6.0]):
        rate, samples = wavfile.read(io.BytesIO(clip.content))
        assert (rate, samples.dtype, samples.shape) == (RATE, np.int16, (RATE // 4,))
        assert clip.samples == len(samples)
        assert 300 < samples.astype(float).std() < 9000 and np.abs(samples).max() < 32767


def test_every_fault_meets_every_ratio() -> None:
    """A fault that came with one signal-to-noise ratio only could not be compared with another."""
    made = clips(machines=1, test_anomaly=12)
    anomalies = [(clip.fault, clip.snr) for clip in made if clip.fault]
    assert sorted(set(anomalies)) == sorted(
        {(fault, snr) for fault in FAULTS for snr in (-6.0, 6.0)}
    )


@pytest.mark.parametrize("snr", [-6.0, 0.0, 6.0])
def test_the_factory_has_the_level_asked_for(snr: float) -> None:
    """`snr` is the power of the healthy machine over that of the factory."""
    machine, factory = build_machine(0, 1, GRID), build_factory(1, GRID)
    clean = clip_sound(machine, factory, "", QUIET, stream(1, 9))
    noisy = clip_sound(machine, factory, "", snr, stream(1, 9))
    assert 20 * np.log10(rms(clean) / rms(noisy - clean)) == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize("name", FAULTS)
def test_severity_is_a_level_against_the_machine(name: str) -> None:
    """The level that a fault adds stays in the range that FAULTS documents."""
    machine, factory = build_machine(1, 1, GRID), build_factory(1, GRID)
    _, mildest, worst = FAULTS[name]
    levels = []
    for number in range(4):
        clean = clip_sound(machine, factory, "", QUIET, stream(1, number))
        broken = clip_sound(machine, factory, name, QUIET, stream(1, number))
        levels.append(20 * np.log10(rms(broken - clean) / rms(clean)))
    assert mildest - 0.01 <= min(levels) < max(levels) <= worst + 0.01


def test_bearing_orders_are_those_published_for_a_real_bearing() -> None:
    """SKF 6205-2RS JEM, drive end of the Case Western Reserve test rig: 9 balls of 0.3126 inch on a
    pitch diameter of 1.537 inch; the centre publishes 3.5848, 5.4152, 0.39828 and 4.7135."""
    bearing = Bearing(9, 0.3126 / 1.537, 0.0)
    orders = [bearing.outer, bearing.inner, bearing.cage, 2 * bearing.ball]
    np.testing.assert_allclose(orders, [3.5848, 5.4152, 0.39828, 4.7135], rtol=3e-4)


@pytest.mark.parametrize("name", ["bearing_outer", "bearing_inner", "bearing_ball"])
def test_bearing_faults_show_in_the_envelope_spectrum(name: str) -> None:
    """Envelope analysis, as a diagnostician does it, finds the fault's frequency: of all orders from
    2.5 up to 1.5 times it, the strongest is it, or a side band of shaft or cage around it."""
    signal, machine, conditions = fault_alone(name)
    frequencies, amplitudes = spectrum(np.abs(hilbert(signal)))
    order = {"bearing_outer": machine.bearing.outer, "bearing_inner": machine.bearing.inner,
             "bearing_ball": 2 * machine.bearing.ball}[name]  # fmt: skip
    side = {"bearing_outer": 0.0, "bearing_inner": 1.0, "bearing_ball": machine.bearing.cage}[name]
    orders = frequencies / rotation(conditions)
    band = (orders > 2.5) & (orders < 1.5 * order)
    strongest = orders[band][np.argmax(amplitudes[band])]
    assert min(abs(strongest - order - shift) for shift in (0.0, side, -side)) < 0.03 * order


def test_imbalance_is_a_force_at_once_the_shaft_speed() -> None:
    """Below the blades' tones, once the shaft speed is what sticks out."""
    signal, _, conditions = fault_alone("imbalance")
    frequencies, amplitudes = spectrum(signal)
    band = (frequencies > 5) & (frequencies < 1.8 * rotation(conditions))
    found = frequencies[band][np.argmax(amplitudes[band])]
    assert found == pytest.approx(rotation(conditions), abs=1.0)


def test_looseness_makes_half_orders_and_many_harmonics() -> None:
    """Every multiple of half the shaft speed sticks out of what is between them."""
    signal, _, conditions = fault_alone("looseness")
    frequencies, amplitudes = spectrum(signal)
    half = rotation(conditions) / 2

    def at(order: float) -> float:
        return amplitudes[np.abs(frequencies - order * half).argmin() + np.arange(-2, 3)].max()

    for multiple in range(2, 12):
        assert at(multiple) > 5 * at(multiple + 0.5)


def test_leakage_has_the_spectrum_of_a_jet() -> None:
    """Power rises by 6 dB an octave below the peak and has fallen two octaves on a broad hump."""
    signal, machine, _ = fault_alone("leakage")
    frequencies, power = welch(signal, RATE, nperseg=512)
    peak = frequencies[np.argmax(power)]
    assert 0.5 * machine.jet_peak < peak < 1.6 * machine.jet_peak

    def level(centre: float) -> float:
        around = (frequencies > 0.8 * centre) & (frequencies < 1.25 * centre)
        return 10 * np.log10(power[around].mean())

    assert level(machine.jet_peak / 8) - level(machine.jet_peak / 16) == pytest.approx(6, abs=1.5)


def test_machines_differ_more_than_their_clips() -> None:
    """A network that tells machine IDs apart has something to learn: the mean log spectra of clips
    are nearer to those of their own machine than to those of another."""
    made = clips(machines=4, train=8, test_normal=1, test_anomaly=1, seconds=1.0, snr=[6.0])
    made = [clip for clip in made if clip.fold == "train"]
    spectra = np.stack([
        np.log(welch(wavfile.read(io.BytesIO(clip.content))[1] / 32768, RATE, nperseg=512)[1])
        for clip in made
    ])  # fmt: skip
    spectra -= spectra.mean(axis=1, keepdims=True)
    machine = np.array([clip.machine_id for clip in made])
    distances = ((spectra[:, None] - spectra[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(machine[distances.argmin(axis=1)] == machine) >= 0.9


def test_level_does_not_give_anomalies_away() -> None:
    """The simplest detector of all, how loud a clip is, must stay far from a good one."""
    made = clips(machines=1, train=1, test_normal=60, test_anomaly=60, seconds=0.5)[1:]
    levels = [rms(wavfile.read(io.BytesIO(clip.content))[1].astype(float)) for clip in made]
    assert 0.3 < roc_auc_score([bool(clip.fault) for clip in made], levels) < 0.7
