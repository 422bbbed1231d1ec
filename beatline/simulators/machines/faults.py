"""Faults of rotating machines, as published models make them: each adds its sound to a healthy one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.fft import rfft
from numpy.random import Generator

from beatline.simulators.machines.machines import (
    REVOLUTIONS,
    TABLE,
    Array,
    Conditions,
    Machine,
    Spectrum,
    force_table,
    noise,
    tones,
    turned,
)

SLIP = 0.015  # random share of the interval between two blows: 1 to 2 % (Randall & Antoni 2011)
LOAD_ZONE = 0.4  # half width of the loaded zone as a share of the diameter (Stribeck's epsilon)


def bearing_outer(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """A spall of the outer ring: equal blows at the ball-pass frequency, the ring stands still."""
    blows, angles = _blows(machine.bearing.outer, conditions, rng)
    return _struck(machine, conditions, blows, np.ones(len(angles)), rng)


def bearing_inner(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """A spall of the inner ring: it turns through the loaded zone once a turn of the shaft, which
    modulates the blows (McFadden & Smith 1984, J. Sound Vib. 96(1):69)."""
    blows, angles = _blows(machine.bearing.inner, conditions, rng)
    return _struck(machine, conditions, blows, _load_zone(angles), rng)


def bearing_ball(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """A spall of a ball: two blows a spin, modulated as the cage carries it through the loaded zone
    (Randall & Antoni 2011, Mech. Syst. Signal Process. 25(2):485)."""
    blows, angles = _blows(2 * machine.bearing.ball, conditions, rng)
    return _struck(machine, conditions, blows, _load_zone(angles * machine.bearing.cage), rng)


def imbalance(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """A mass off the axis: a force at once the shaft speed that grows with its square (ISO 21940),
    which also bends the shaft and so modulates the tooth mesh and blade tones once a turn."""
    once = np.cos(conditions.angle + rng.uniform(0, 2 * np.pi))
    carried = turned(tones(machine, conditions), conditions.angle)
    force = 1.2 * once * conditions.speed**2 + carried * once
    return rfft(force) * machine.housing


def looseness(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """A loose foot or fit: the force is clipped where the contact opens, on every other turn farther,
    which gives harmonics and half orders of the shaft speed (Muszynska & Goldman 1995, Chaos, Solitons
    & Fractals 5(9):1683)."""
    low = np.arange(1.0, 4.0)
    unbalance = force_table(
        machine, conditions, low, 1.0 / low, machine.phases[:3] + rng.normal(0, 0.3, 3)
    )
    turn = np.arange(TABLE) * (2 * np.pi * REVOLUTIONS / TABLE)
    opening = np.std(unbalance) * (0.6 + 0.4 * np.cos(turn / 2))
    lost = np.maximum(unbalance - opening, 0)
    # The contact closes with a blow: its force is the change of what was lost.
    blow = np.minimum(np.diff(lost, append=lost[0]), 0)
    table = lost / np.std(lost) + 2 * blow / np.std(blow)
    return rfft(turned(table, conditions.angle)) * machine.housing


def leakage(machine: Machine, conditions: Conditions, rng: Generator) -> Spectrum:
    """Gas from a leak: the noise of a turbulent jet, whose power rises with the square of the
    frequency to a peak at a Strouhal number of 0.2 and falls with its inverse square (Lighthill 1952,
    Proc. R. Soc. A 211:564; Powell 1959, J. Acoust. Soc. Am. 31:812); pressure swings with the load."""
    ratio = machine.grid.frequencies / (machine.jet_peak * np.exp(rng.normal(0, 0.15)))
    jet = noise(ratio / (1 + ratio**2), machine.grid.length, rng)
    return rfft(jet * (0.5 + 0.5 * conditions.load))


Fault = Callable[[Machine, Conditions, Generator], Spectrum]

# Each fault, and the level of its sound in dB against that of the healthy machine: a severity is
# drawn evenly from this range, from one that only a good detector can hear to one that is plain.
FAULTS: dict[str, tuple[Fault, float, float]] = {
    "bearing_outer": (bearing_outer, -16.0, -2.0),
    "bearing_inner": (bearing_inner, -16.0, -2.0),
    "bearing_ball": (bearing_ball, -16.0, -2.0),
    "imbalance": (imbalance, -9.0, 0.0),
    "looseness": (looseness, -11.0, 0.0),
    "leakage": (leakage, -7.0, 2.0),
}


def _blows(order: float, conditions: Conditions, rng: Generator) -> tuple[Array, Array]:
    """Place (in samples) and shaft angle of blows of this order, each interval with random slip."""
    angle = conditions.angle
    step = 2 * np.pi / order
    count = int((angle[-1] - angle[0]) / step) + 1
    slip = 1 + SLIP * rng.standard_normal(count)
    angles = angle[0] + step * (rng.random() + np.cumsum(slip))
    angles = angles[angles < angle[-1]]
    return np.interp(angles, angle, np.arange(len(angle))), angles


def _load_zone(angle: Array) -> Array:
    """Stribeck's distribution of the load over the angle, 1 in the middle of the loaded zone."""
    inside = 1 - (1 - np.cos(angle)) / (2 * LOAD_ZONE)
    return np.maximum(inside, 0) ** 1.5


def _struck(
    machine: Machine, conditions: Conditions, blows: Array, strengths: Array, rng: Generator
) -> Spectrum:
    """The ringing of the bearing's housing after blows, whose strength scatters and goes with the
    load; a blow between two samples is shared out between them."""
    whole = blows.astype(int)
    fraction = blows - whole
    strengths = strengths * conditions.load[whole] * np.exp(rng.normal(0, 0.2, len(blows)))
    force = np.zeros(machine.grid.length + 1)
    np.add.at(force, whole, strengths * (1 - fraction))
    np.add.at(force, whole + 1, strengths * fraction)
    return rfft(force[:-1]) * machine.bearing_housing
