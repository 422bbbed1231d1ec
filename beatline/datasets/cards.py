"""What a data card and a model card say of a kind of data set that its files do not tell.

A function per data set module, by its name in params.yaml; who adds a module adds one here. It stands
here and not beside the module, because whatever stands there makes models anew. Of a data set that
nobody has described, or of files of one's own, the cards say that. The texts are Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from beatline.common.markdown import text

Description = Mapping[str, Any]
"""The content of dataset.json."""


@dataclass(frozen=True)
class Words:
    """`licence`: of the recordings. `collected`: how they came about. `labelled`: who said what they
    show. `use`: what the data and models of them are for; `misuse`: what they must not be used for.
    `factors`: what may change how good a model is, and is not measured. `limits`: what is known to be
    wrong or missing, and true of this data set in particular."""

    licence: str
    collected: str
    labelled: str
    use: str
    misuse: tuple[str, ...]
    factors: str
    limits: tuple[str, ...]


NO_DEVICE = (
    "No medical device: nothing here may take part in the diagnosis or treatment of a person."
)
OTHERS = "Recordings of another origin, device or population: nothing is measured on them."
SIMULATED = "Statements about real {what}: the recordings come from a simulator."


def words_of(name: str, datasets: Mapping[str, Any], description: Description) -> Words:
    """Of the data set `name` of the block `datasets` of params.yaml, as `description` has it."""
    block = datasets[name]
    describe = _MODULES.get(block["module"])
    found = describe(name, datasets, description) if describe else None
    return found or _undescribed(name, block["module"], known=describe is not None)


def _undescribed(name: str, module: str, *, known: bool) -> Words:
    """Files of one's own (of a module that is `known`), or a module without a function here."""
    why = (
        f"the recordings are given by `datasets.{name}.download.source`, and nobody has described them"
        if known
        else f"nobody has described the data set module `{module}` in `beatline/datasets/cards.py`"
    )
    return Words(
        licence=f"Not known: {why}.",
        collected=f"Not known: {why}.",
        labelled="The labels are those that came with the recordings; who gave them is not known.",
        use=f"Not known: {why}.",
        misuse=(
            "Anything of consequence, until somebody has described where the recordings come from.",
            NO_DEVICE,
            OTHERS,
        ),
        factors="Nobody has said what else may matter.",
        limits=("Nothing is known of who or what was recorded, and of how labels were given.",),
    )


# ---------------------------------------------------------------- ECGs


def _ptbxl(name: str, datasets: Mapping[str, Any], description: Description) -> Words | None:
    del name, datasets
    if description["simulated"]:
        return _PTBXL_SIMULATED
    return _PTBXL if description["source"] == "physionet" else None


_SUPERCLASSES = (
    "Diagnostic statements are summed up to superclasses by the table of PTB-XL's authors; those below "
    "`min_likelihood` do not count."
)
_ECG_USE = (
    "research and teaching: how networks learn from 12-lead ECGs, and how they are compared, split by "
    "patient and reviewed"
)
_PTBXL = Words(
    licence="CC BY 4.0, as PhysioNet publishes version 1.0.3.",
    collected=(
        "ECGs of 10 s that devices of Schiller AG recorded between October 1989 and June 1996, "
        "published by the Physikalisch-Technische Bundesanstalt (Wagner et al. 2020)."
    ),
    labelled=(
        "Up to two cardiologists annotated each ECG with SCP-ECG statements; part of the first reports "
        f"was written by the recording device (Wagner et al. 2020). {_SUPERCLASSES}"
    ),
    use=f"For {_ECG_USE}.",
    misuse=(NO_DEVICE, OTHERS),
    factors=(
        "Device, place and year of a recording, origin and treatment of a patient, and the quality of "
        "the signal may matter; none of them is measured here."
    ),
    limits=(
        "All ECGs were recorded between 1989 and 1996, with devices of one maker.",
        "Labels hold mistakes: annotations differ in how often a human looked at them, and a likelihood "
        "is given for part of the statements only.",
        "A superclass is coarse: it puts diagnoses together that look quite different.",
    ),
)
_PTBXL_SIMULATED = Words(
    licence=(
        "The project's own simulator makes them: nobody else's recordings are in them. How often "
        "diagnoses occur is taken from PTB-XL (CC BY 4.0)."
    ),
    collected=(
        "The project's simulator (`beatline/simulators/ecg/simulator.py`) draws patients with age, sex, "
        "diagnoses and rhythm, lets a dipole model of the heart beat, projects it on 12 leads, and adds "
        "the noise of electrodes. No person was recorded."
    ),
    labelled=(
        "The simulator writes the statements that it has simulated, and errs on purpose: it names "
        "findings that can hardly be seen, and hides slight findings in part of the records without an "
        f"abnormal statement. {_SUPERCLASSES}"
    ),
    use=f"To show that the pipeline works where the real archive is not at hand; for {_ECG_USE}.",
    misuse=(SIMULATED.format(what="patients"), NO_DEVICE, OTHERS),
    factors=(
        "Sex and age change what the simulator draws, as far as its author knew how. What else tells "
        "people, devices and hospitals apart is not simulated, and so not measured."
    ),
    limits=(
        "Voltages are those of a model: a network may learn what only the simulator does, and fail on "
        "the first real ECG.",
        "Ages are drawn around 67 years for the ill and around 52 for the others: the younger a group, "
        "the fewer of it are ill, which moves precision, F1 and average precision.",
        "Label noise is what the simulator was told to make, and not how humans err.",
        "A finding follows a textbook criterion, at a severity between invisible and obvious. What "
        "textbooks do not tell is missing.",
    ),
)


# ---------------------------------------------------------------- time series


def _ucr(name: str, datasets: Mapping[str, Any], description: Description) -> Words | None:
    del description
    download, labels = datasets[name]["download"], datasets[name]["aggregate_labels"]
    if download["source"] not in ("package", "ucr"):
        return None
    aggregated = (
        f"Class {text(labels['normal_class'])} of the archive is normal, all others are one class, "
        f"anomaly."
        if labels["target"] == "anomaly"
        else "The classes are those of the archive."
    )
    if download["name"] == "ECG5000":
        return replace(_ECG5000, labelled=f"{_ECG5000.labelled} {aggregated}")
    return replace(_UCR, labelled=f"{_UCR.labelled} {aggregated}")


_UCR_LICENCE = "The UCR archive states none and asks to be cited."
_UCR_USE = "For research and teaching: how networks classify short time series."
_UCR = Words(
    licence=_UCR_LICENCE,
    collected=(
        "A data set of the UCR time series archive, in the form in which the archive gives it; its "
        "page there says where it comes from."
    ),
    labelled="The labels are the archive's.",
    use=_UCR_USE,
    misuse=(OTHERS,),
    factors="The archive does not tell who or what was recorded.",
    limits=(
        "The archive does not say which series belong together (one person, one machine): they may be "
        "in several splits.",
    ),
)
_ECG5000 = Words(
    licence=(
        f"{_UCR_LICENCE} The ECG is from the BIDMC Congestive Heart Failure Database of PhysioNet "
        f"(Open Data Commons Attribution License 1.0)."
    ),
    collected=(
        "Single heartbeats out of one ECG of about 20 hours, record chf07 of the BIDMC Congestive Heart "
        "Failure Database, each interpolated to the same length; 5,000 of them were drawn at random "
        "(Chen et al. 2015)."
    ),
    labelled="A program annotated the beats; nobody has corrected it by hand.",
    use=_UCR_USE,
    misuse=(
        NO_DEVICE,
        "Heartbeats of any other person: all that is known here is known of one.",
    ),
    factors=(
        "There is one patient, so that no split can keep patients apart, and nothing can be said by sex "
        "or age."
    ),
    limits=(
        "All beats are of **one person**, with severe congestive heart failure. Beats of the same hours "
        "are in all splits: scores say how well beats of that ECG are told apart, and nothing of others.",
        "The labels are a program's, so that a model is measured by how well it repeats the program.",
        "Every beat is cut, stretched to one length and standardized by itself: rhythm, duration and "
        "voltage are lost.",
    ),
)


# ---------------------------------------------------------------- digits


def _mnist(name: str, datasets: Mapping[str, Any], description: Description) -> Words | None:
    del name, datasets
    source = description["source"]
    if source not in ("package", "official"):
        return None
    if source == "official":
        return _MNIST
    part = (
        "The package carries part of the digits, and does not say which of the publishers' two parts "
        "they are of: scores do not compare with published ones."
    )
    return replace(_MNIST, limits=(part, *_MNIST.limits))


_MNIST = Words(
    licence=(
        "CC BY-SA 3.0, copyright of Yann LeCun and Corinna Cortes, as Keras and TensorFlow state it."
    ),
    collected=(
        "Digits that employees of the American Census Bureau and high-school students wrote for NIST, "
        "scaled to one size and centred by the publishers (LeCun et al. 1998)."
    ),
    labelled="The labels are the publishers'.",
    use="For teaching and for checks: digits are the example that everybody knows.",
    misuse=(
        "Reading digits from other pens, scanners or countries without measuring it there.",
        "Proof that a method is good: simple ones come close to perfect on these digits.",
    ),
    factors=(
        "Who wrote a digit is not in the files: nothing can be said by writer, and one writer may be in "
        "several splits."
    ),
    limits=("Digits are centred, single and of one size, as they are on no real form.",),
)


# ---------------------------------------------------------------- tables


def _table(name: str, datasets: Mapping[str, Any], description: Description) -> Words | None:
    download = datasets[name]["download"]
    if download["source"] != "derived" or Path(download["needs"]).name not in datasets:
        return None
    origin = Path(download["needs"]).name
    of_origin = words_of(origin, datasets, description)
    left_out = description["counts"].get("rows_of_other_labels", 0)
    without = (
        f"{left_out:,} rows with other labels are left out; scores say nothing of recordings like those.",
    )
    return replace(
        of_origin,
        collected=(
            f"A table of features that `extract_features` measured on the recordings of "
            f"{text(origin)}. {of_origin.collected}"
        ),
        labelled=(
            f"The label is the column `{download['label']}` of the table. {of_origin.labelled}"
        ),
        use=(
            f"To see how far a model gets with measurements instead of recordings. {of_origin.use}"
        ),
        limits=(
            "Features are measured by a program, whose mistakes a model cannot tell from findings; what "
            "it does not measure is lost.",
            *(without if left_out else ()),
            *of_origin.limits,
        ),
    )


# ---------------------------------------------------------------- machines


def _sound(name: str, datasets: Mapping[str, Any], description: Description) -> Words | None:
    del name, datasets
    if description["simulated"]:
        return _SOUND_SIMULATED
    return _MIMII if description["source"] == "mimii" else None


_MACHINE_USE = (
    "how faults are found by models that have heard normal sounds only, and how such models are "
    "compared"
)
_NOT_ALONE = (
    "Deciding alone whether a machine is safe to run: faults are missed, and alarms are false."
)
_MIMII = Words(
    licence="CC BY-SA 4.0, as Zenodo publishes record 3384388.",
    collected=(
        "Sounds of machines of one type, recorded by an array of microphones, and mixed with the noise "
        "of real factories at one signal-to-noise ratio (Purohit et al. 2019)."
    ),
    labelled=(
        "The publishers recorded each machine in normal and in anomalous condition (contamination, "
        "leakage, imbalance and the like)."
    ),
    use=f"For research and teaching: {_MACHINE_USE}.",
    misuse=(_NOT_ALONE, OTHERS),
    factors=(
        "Load, speed, place of the microphone and kind of fault may matter; none of them is measured."
    ),
    limits=(
        "Anomalies are of the few kinds that the publishers recorded.",
        "Factory noise was mixed in afterwards, as it does not happen beside a real machine.",
    ),
)
_SOUND_SIMULATED = Words(
    licence="The project's own simulator makes them: nobody else's recordings are in them.",
    collected=(
        "The project's simulator (`beatline/simulators/machines`) lets a shaft with fan wheel, "
        "gears and a bearing turn in a housing and a hall, at speeds and loads that vary from clip to "
        "clip, and adds a factory. No machine was recorded."
    ),
    labelled="The simulator writes which fault it has added; a clip with one is an anomaly.",
    use=(
        f"To show that the pipeline works where no recordings are at hand; for research and teaching: "
        f"{_MACHINE_USE}."
    ),
    misuse=(SIMULATED.format(what="machines"), _NOT_ALONE, OTHERS),
    factors=(
        "Speed, load, kind of fault and signal-to-noise ratio change from clip to clip; metrics pool "
        "them within each machine."
    ),
    limits=(
        "A fault is the textbook's, added to a healthy sound: real faults grow, and change the machine.",
        "Clips are drawn independently of each other; those of a real machine are alike for hours.",
        "How many test clips are anomalies is a parameter, and no estimate of how often machines fail; "
        "precision, F1 and accuracy depend on it.",
    ),
)

_MODULES: dict[str, Callable[[str, Mapping[str, Any], Description], Words | None]] = {
    "ptbxl": _ptbxl,
    "ucr": _ucr,
    "mnist": _mnist,
    "table": _table,
    "sound": _sound,
}
