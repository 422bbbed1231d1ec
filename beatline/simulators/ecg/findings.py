"""The changes that each diagnosis makes to the beat of the cardiac model.

A finding takes a beat, changes it in place by a severity between 0 (nothing to see) and 1 (clear),
and may draw from a generator what differs between people with the same diagnosis. The changes are
the textbook criteria (Surawicz et al. 2009, AHA/ACCF/HRS recommendations part III: conduction;
Rautaharju et al. 2009, part IV: ST, T, QT; Hancock et al. 2009, part V: hypertrophy; Thygesen et
al. 2018, fourth universal definition of myocardial infarction: pathological Q), told as changes of
the dipole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from beatline.simulators.ecg.cardiac_model import (
    ATRIAL,
    QRS,
    REPOLARIZATION,
    T_WAVE,
    WAVE,
    Array,
    Beat,
    stretch,
    turned,
)

Finding = Callable[[Beat, float, Generator], None]

# Where a part of the left ventricle lies, seen from the middle of the heart (left, feet, back).
TERRITORIES: dict[str, tuple[float, float, float]] = {
    "inferior": (0.0, 1.0, 0.1),
    "anteroseptal": (-0.1, 0.05, -1.0),
    "anterior": (0.35, 0.0, -0.95),
    "anterolateral": (0.75, -0.15, -0.65),
    "lateral": (1.0, -0.25, 0.1),
    "inferolateral": (0.7, 0.7, 0.1),
    "inferoposterior": (0.0, 0.75, 0.65),
    "inferoposterolateral": (0.55, 0.6, 0.55),
    "posterior": (0.1, 0.0, 1.0),
    "whole": (0.75, 0.5, -0.35),
}


def _territory(name: str) -> Array:
    return np.array(TERRITORIES[name])


def infarction(territory: str) -> Finding:
    """Dead muscle sends no early QRS forces: Q waves; an inverted T, and in the acute stage ST."""
    direction = _territory(territory)

    def change(beat: Beat, severity: float, rng: Generator) -> None:
        beat.dipoles[WAVE["necrosis"]] -= rng.uniform(0.45, 0.75) * severity * direction
        beat.centres[WAVE["necrosis"]] += rng.normal(0, 0.003)
        beat.dipoles[T_WAVE] -= rng.uniform(0.02, 0.20) * severity * direction
        acute = rng.random() < 0.25
        beat.dipoles[WAVE["st"]] += (0.25 if acute else 0.06) * severity * direction

    return change


def injury(territory: str) -> Finding:
    """Subendocardial injury: a marked ST depression, and some loss of QRS forces."""
    direction = _territory(territory)

    def change(beat: Beat, severity: float, rng: Generator) -> None:
        beat.dipoles[WAVE["st"]] -= rng.uniform(0.15, 0.28) * severity * direction
        beat.dipoles[WAVE["necrosis"]] -= 0.25 * severity * direction

    return change


def ischemia(territory: str) -> Finding:
    """ST depression and a flat or inverted T over the territory."""
    direction = _territory(territory)

    def change(beat: Beat, severity: float, rng: Generator) -> None:
        beat.dipoles[WAVE["st"]] -= rng.uniform(0.08, 0.18) * severity * direction
        beat.dipoles[T_WAVE] -= rng.uniform(0.24, 0.40) * severity * direction

    return change


def t_abnormality(beat: Beat, severity: float, rng: Generator) -> None:
    """A T wave that is flat, or just inverted."""
    beat.dipoles[T_WAVE] *= 1 - rng.uniform(0.7, 1.25) * severity


def st_change(beat: Beat, severity: float, rng: Generator) -> None:
    """A slight ST depression with a lower T wave."""
    beat.dipoles[WAVE["st"]] -= rng.uniform(0.05, 0.10) * severity * _territory("whole")
    beat.dipoles[T_WAVE] *= 1 - 0.6 * severity


def digitalis(beat: Beat, severity: float, rng: Generator) -> None:
    """Sagging ST depression, low T, short QT."""
    beat.dipoles[WAVE["st"]] -= rng.uniform(0.10, 0.18) * severity * _territory("whole")
    beat.widths[WAVE["st"]] *= 1 + 0.4 * severity
    beat.dipoles[T_WAVE] *= 1 - 0.7 * severity
    stretch(beat, REPOLARIZATION, 1 - 0.08 * severity)


def long_qt(beat: Beat, severity: float, rng: Generator) -> None:
    """A QT interval of up to 1.3 times the normal."""
    stretch(beat, REPOLARIZATION, 1 + rng.uniform(0.2, 0.3) * severity)


def electrolytes(beat: Beat, severity: float, rng: Generator) -> None:
    """Much potassium: tall, narrow T. Little: flat T, sagging ST, large U."""
    if rng.random() < 0.4:
        beat.dipoles[T_WAVE] *= 1 + 1.3 * severity
        beat.widths[T_WAVE] *= 1 - 0.3 * severity
    else:
        beat.dipoles[T_WAVE] *= 1 - 0.85 * severity
        beat.dipoles[WAVE["st"]] -= 0.06 * severity * _territory("whole")
        beat.dipoles[WAVE["u"]] += 0.12 * severity * _territory("whole")


def aneurysm(beat: Beat, severity: float, rng: Generator) -> None:
    """Anterior ST elevation that stays, with an inverted T."""
    direction = _territory("anterior")
    beat.dipoles[WAVE["st"]] += rng.uniform(0.18, 0.30) * severity * direction
    beat.dipoles[T_WAVE] -= 0.18 * severity * direction


def left_anterior_block(beat: Beat, severity: float, rng: Generator) -> None:
    """The axis turns to the left and up: small q in I and aVL, rS in II, III and aVF."""
    angle = -np.radians(rng.uniform(75, 95)) * severity
    late = slice(WAVE["free_wall"], WAVE["basal"] + 1)
    beat.dipoles[late] = turned(beat.dipoles[late], frontal=angle)
    beat.dipoles[WAVE["septal"], 1] += 0.22 * severity
    stretch(beat, QRS, 1 + 0.08 * severity)


def left_posterior_block(beat: Beat, severity: float, rng: Generator) -> None:
    """The axis turns to the right: rS in I and aVL, qR in III."""
    angle = np.radians(rng.uniform(60, 85)) * severity
    late = slice(WAVE["free_wall"], WAVE["basal"] + 1)
    beat.dipoles[late] = turned(beat.dipoles[late], frontal=angle)
    beat.dipoles[WAVE["septal"]] += severity * np.array([0.15, -0.15, 0.0])


def right_bundle_block(complete: bool) -> Finding:
    """A late force to the right and the front: rSR' in V1, a wide S in I and V6."""
    centre, width, size = (0.060, 0.017, 0.80) if complete else (0.042, 0.011, 0.38)

    def change(beat: Beat, severity: float, rng: Generator) -> None:
        beat.centres[WAVE["terminal"]] = centre * rng.uniform(0.9, 1.1)
        beat.widths[WAVE["terminal"]] = width
        late = size * rng.uniform(0.75, 1.25) * severity * np.array([-0.75, 0.0, -0.8])
        beat.dipoles[WAVE["terminal"]] += late
        beat.dipoles[WAVE["basal"]] *= 1 - 0.7 * severity
        beat.dipoles[WAVE["posterior"], 2] *= 1 - 0.35 * severity
        if complete:
            beat.dipoles[T_WAVE] -= 0.22 * late
            stretch(beat, REPOLARIZATION, 1 + 0.05 * severity)

    return change


def left_bundle_block(beat: Beat, severity: float, rng: Generator) -> None:
    """No septal q, a wide notched R in I and V6, QS or rS in V1; ST and T point the other way."""
    beat.dipoles[WAVE["septal"]] += severity * np.array([0.30, 0.10, 0.30])
    stretch(beat, QRS, 1 + 0.75 * severity)
    beat.dipoles[QRS] *= 1 - 0.15 * severity
    beat.centres[WAVE["terminal"]] = 0.050 + rng.normal(0, 0.004)
    beat.widths[WAVE["terminal"]] = 0.017
    beat.dipoles[WAVE["terminal"]] += severity * np.array([0.75, 0.05, 0.55])
    discordant = severity * np.array([-0.6, -0.15, -0.6])
    beat.dipoles[WAVE["st"]] += 0.22 * discordant
    beat.dipoles[T_WAVE] += 0.42 * discordant
    stretch(beat, REPOLARIZATION, 1 + 0.08 * severity)


def incomplete_left_bundle_block(beat: Beat, severity: float, rng: Generator) -> None:
    """The left bundle branch block at a third of its strength."""
    left_bundle_block(beat, 0.4 * severity, rng)


def conduction_delay(beat: Beat, severity: float, rng: Generator) -> None:
    """A wide, slurred QRS without the shape of a bundle branch block."""
    stretch(beat, QRS, 1 + rng.uniform(0.3, 0.5) * severity)
    beat.dipoles[WAVE["terminal"]] += rng.normal(0, 0.25, 3) * severity
    beat.dipoles[QRS] *= 1 - 0.1 * severity


def long_pr(beat: Beat, severity: float, rng: Generator) -> None:
    """A PR interval of more than 200 ms."""
    beat.centres[ATRIAL] -= rng.uniform(0.07, 0.15) * severity


def preexcitation(beat: Beat, severity: float, rng: Generator) -> None:
    """A short PR interval and a delta wave."""
    beat.centres[ATRIAL] += 0.045 * severity
    beat.dipoles[WAVE["delta"]] += rng.uniform(0.3, 0.5) * severity * np.array([0.7, 0.3, -0.5])
    beat.dipoles[T_WAVE] -= 0.08 * severity * _territory("whole")


def left_ventricular_hypertrophy(beat: Beat, severity: float, rng: Generator) -> None:
    """High voltages to the left and the back, and with them strain: ST depression, inverted T."""
    walls = slice(WAVE["free_wall"], WAVE["posterior"] + 1)
    beat.dipoles[walls] *= 1 + rng.uniform(0.55, 0.95) * severity
    beat.dipoles[walls] = turned(beat.dipoles[walls], frontal=-0.25 * severity)
    strain = rng.uniform(0.0, 1.0) * severity
    direction = np.array([0.9, 0.25, 0.3])
    beat.dipoles[WAVE["st"]] -= 0.10 * strain * direction
    beat.dipoles[T_WAVE] -= 0.24 * strain * direction
    stretch(beat, QRS, 1 + 0.08 * severity)


def right_ventricular_hypertrophy(beat: Beat, severity: float, rng: Generator) -> None:
    """The axis turns to the right and the front: R in V1, S in V6; strain in V1 to V3."""
    walls = slice(WAVE["free_wall"], WAVE["posterior"] + 1)
    beat.dipoles[walls] = turned(beat.dipoles[walls], frontal=np.radians(60) * severity)
    beat.dipoles[WAVE["posterior"], 2] -= 1.2 * severity
    beat.dipoles[WAVE["free_wall"], 2] -= 0.5 * severity
    beat.dipoles[WAVE["terminal"], 0] -= 0.4 * severity
    beat.dipoles[T_WAVE, 2] += rng.uniform(0.08, 0.18) * severity
    beat.dipoles[WAVE["p_right"]] *= 1 + 0.6 * severity


def septal_hypertrophy(beat: Beat, severity: float, rng: Generator) -> None:
    """Deep narrow q in the lateral leads, tall r in V1."""
    beat.dipoles[WAVE["septal"]] *= 1 + rng.uniform(1.3, 2.2) * severity


def left_atrial_enlargement(beat: Beat, severity: float, rng: Generator) -> None:
    """A wide, notched P in II and a deep late negative P in V1."""
    beat.centres[ATRIAL] -= 0.02 * severity
    beat.centres[WAVE["p_left"]] += 0.025 * severity
    beat.dipoles[WAVE["p_left"]] *= 1 + 0.8 * severity
    beat.dipoles[WAVE["p_left"], 2] += rng.uniform(0.06, 0.10) * severity


def right_atrial_enlargement(beat: Beat, severity: float, rng: Generator) -> None:
    """A tall, peaked P in the inferior leads."""
    beat.dipoles[WAVE["p_right"]] *= 1 + rng.uniform(1.3, 2.2) * severity


def ventricular_pacing(beat: Beat, rng: Generator) -> None:
    """A right-ventricular pacemaker: a narrow spike, then QRS as in left bundle branch block."""
    left_bundle_block(beat, 1.0, rng)
    beat.centres[WAVE["delta"]] = -0.095
    beat.widths[WAVE["delta"]] = 0.002
    beat.dipoles[WAVE["delta"]] = rng.uniform(0.8, 2.0) * np.array([0.5, 0.7, 0.2])
    beat.dipoles[WAVE["free_wall"]] = turned(beat.dipoles[WAVE["free_wall"]], frontal=-1.3)


def no_change(beat: Beat, severity: float, rng: Generator) -> None:
    """For the AV blocks that drop beats: they change the rhythm, see `Rhythm.av_block`."""


FINDINGS: dict[str, Finding] = {
    "IMI": infarction("inferior"),
    "ASMI": infarction("anteroseptal"),
    "ILMI": infarction("inferolateral"),
    "AMI": infarction("anterior"),
    "ALMI": infarction("anterolateral"),
    "LMI": infarction("lateral"),
    "IPLMI": infarction("inferoposterolateral"),
    "IPMI": infarction("inferoposterior"),
    "PMI": infarction("posterior"),
    "INJAS": injury("anteroseptal"),
    "INJAL": injury("anterolateral"),
    "INJIN": injury("inferior"),
    "INJLA": injury("lateral"),
    "INJIL": injury("inferolateral"),
    "NDT": t_abnormality,
    "NST_": st_change,
    "ISC_": ischemia("whole"),
    "ISCAL": ischemia("anterolateral"),
    "ISCIN": ischemia("inferior"),
    "ISCIL": ischemia("inferolateral"),
    "ISCAS": ischemia("anteroseptal"),
    "ISCLA": ischemia("lateral"),
    "ISCAN": ischemia("anterior"),
    "DIG": digitalis,
    "LNGQT": long_qt,
    "ANEUR": aneurysm,
    "EL": electrolytes,
    "LAFB": left_anterior_block,
    "LPFB": left_posterior_block,
    "IRBBB": right_bundle_block(complete=False),
    "CRBBB": right_bundle_block(complete=True),
    "CLBBB": left_bundle_block,
    "ILBBB": incomplete_left_bundle_block,
    "IVCD": conduction_delay,
    "1AVB": long_pr,
    "WPW": preexcitation,
    "2AVB": no_change,
    "3AVB": no_change,
    "LVH": left_ventricular_hypertrophy,
    "RVH": right_ventricular_hypertrophy,
    "SEHYP": septal_hypertrophy,
    "LAO/LAE": left_atrial_enlargement,
    "RAO/RAE": right_atrial_enlargement,
}
