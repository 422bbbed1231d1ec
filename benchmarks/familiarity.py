"""How many test recordings are called far from the training ones, and how many foreign ones.

``python -m benchmarks.familiarity [--data FOLDER]`` fits the distance to each data set that is normalized
in `data/`, as train does. Foreign are shapes like clothes, noise, and digits that are turned; ECGs with
electrodes exchanged, flat, played backwards and in another unit; sounds of machines that the simulator
makes with other numbers; rows whose columns are shuffled. Exits with status 1 if more than 1 % of test
recordings are called far; where there are normal ones only to learn from, of the normal ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beatline.common import sums
from beatline.features import sound
from beatline.prediction.familiarity import Familiarity
from beatline.preprocessing import arrays
from beatline.preprocessing.normalization import Normalization
from beatline.preprocessing.splitting import SPLITS
from beatline.simulators.machines.factory import build_factory
from beatline.simulators.machines.machines import Grid, build_machine, stream
from beatline.simulators.machines.simulator import clip_sound
from beatline.training import familiarity

MOST = 0.01  # of test recordings
CLIPS, NEW_MACHINES = 30, range(4, 12)  # of machines that no model has learned from
Signals = np.ndarray | list[np.ndarray]  # normalized recordings
Foreign = dict[str, Signals]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    folders = sorted((parser.parse_args().data / "normalized").iterdir())
    return int(max([measured(folder) for folder in folders]) > MOST)


def measured(folder: Path) -> float:
    """Print a data set's shares, and return that of the test recordings of kinds it has learned."""
    dataset = sums.read_sealed_json(folder / "dataset.json")
    train, validation, test = (arrays.load_split(folder / part) for part in SPLITS)
    known = familiarity.fit(train.signals, validation.signals, dataset)
    assert known
    print(
        f"\n{folder.name}: {len(train.signals)} recordings, {len(known.mean)} features, threshold ",
        end="",
    )
    print(f"{known.threshold:.1f} from {len(validation.signals)} of validation")
    anomalous = test.anomalies()[:, 0] == 1
    if train.anomalies().any():
        rate = show("test", known, test.signals[:], dataset)
    else:
        rate = show("test, normal", known, test.signals[~anomalous], dataset)
        if anomalous.any():
            show("test, faulty", known, test.signals[anomalous], dataset)
    for name, signals in foreign_to(dataset, test.signals[:]).items():
        show(name, known, signals, dataset)
    return rate


def show(name: str, known: Familiarity, signals: Signals, dataset: dict[str, Any]) -> float:
    distances = np.array([known.distance(signal, dataset) for signal in signals])
    rate = float(np.mean(distances > known.threshold))
    print(f"    {name:34s} {rate:7.1%} of {len(distances):4d}   median {np.median(distances):.1f}")
    return rate


# ---------------------------------------------------------------------------------- foreign recordings


def foreign_to(dataset: dict[str, Any], test: np.ndarray) -> Foreign:
    """Return recordings `[N, T, C]` that are none of the data set's, by what they are."""
    normalization = Normalization(**dataset["normalization"])
    rng = np.random.default_rng(1)
    if dataset["length"] == 1:
        return of_rows(test, normalization, rng)
    makers: dict[str, Callable[..., Foreign]] = {"image": of_images, "spectrogram": of_sounds}
    maker = makers.get(dataset["drawing"], of_series)
    return maker(test, normalization, rng, dataset)


def of_rows(test: np.ndarray, normalization: Normalization, rng: np.random.Generator) -> Foreign:
    columns = range(test.shape[2])
    return {
        "columns in another order": test[:, :, rng.permutation(test.shape[2])],
        "each column of another record": np.stack(
            [rng.permutation(test[:, :, column]) for column in columns], axis=2
        ),
        "another unit, x1000": normalization.apply(1000 * normalization.undo(test)),
    }


def of_images(
    test: np.ndarray, normalization: Normalization, rng: np.random.Generator, _: dict[str, Any]
) -> Foreign:
    raw = normalization.undo(test)
    noise = np.clip(rng.normal(raw.mean(), raw.std(), raw.shape), 0, 1)
    return {
        "shapes like clothes": normalization.apply(np.stack([clothes(rng) for _ in test])),
        "noise as bright": normalization.apply(noise),
        "inverted": normalization.apply(1 - raw),
        "turned by 90 degrees": np.rot90(test, 1, (1, 2)),
        "turned by 180 degrees": np.rot90(test, 2, (1, 2)),
    }


def clothes(rng: np.random.Generator) -> np.ndarray:
    """Draw a shirt, trousers, a dress, a boot or a bag, filled and a little uneven, `[28, 28]`."""
    y, x = np.mgrid[:28, :28]
    side, width, top, bottom = (
        abs(x - 13.5),
        rng.uniform(5, 9),
        rng.integers(2, 6),
        rng.integers(22, 27),
    )
    inside = (y >= top) & (y < bottom)
    shape = [
        inside & ((side < width) | ((side < 13) & (y < top + rng.integers(5, 9)))),
        inside & (side < width) & ~((side < 1.5) & (y > top + 6)),
        inside & (side < 3 + (y - top) * 0.4),
        (y < 22) & (x < 26) & (((y > 14) & (x > 2)) | ((y > 7) & (x > 17))),
        ((y > 9) & (y < 25) & (side < 11)) | (abs(np.hypot(x - 13.5, y - 10) - 6) < 1),
    ][rng.integers(5)]
    shade = rng.uniform(0.4, 1) + rng.normal(0, 0.08, shape.shape)
    return np.where(shape, np.clip(shade, 0, 1), 0)


def of_series(
    test: np.ndarray,
    normalization: Normalization,
    rng: np.random.Generator,
    dataset: dict[str, Any],
) -> Foreign:
    raw = normalization.undo(test)
    noise = raw.std(axis=1, keepdims=True) * rng.standard_normal(raw.shape)
    changed = {
        "noise as loud": noise,
        "another unit, x1000": 1000 * raw,
        "another unit, /1000": raw / 1000,
        "backwards": raw[:, ::-1],
    }
    if dataset["drawing"] == "twelve_leads":
        lead = {name.upper(): number for number, name in enumerate(dataset["channels"])}
        arms = exchanged(raw, lead, ("II", "III"), ("AVR", "AVL"))
        arms[:, :, lead["I"]] *= -1
        flat = raw.copy()
        flat[:, :, lead["V2"]] = 0
        changed |= {
            "arms exchanged (RA, LA)": arms,
            "V1 and V6 exchanged": exchanged(raw, lead, ("V1", "V6")),
            "V1 and V2 exchanged": exchanged(raw, lead, ("V1", "V2")),
            "V2 flat": flat,
        }
    return {name: normalization.apply(signals) for name, signals in changed.items()}


def exchanged(raw: np.ndarray, lead: dict[str, int], *pairs: tuple[str, str]) -> np.ndarray:
    result = raw.copy()
    for a, b in pairs:
        result[:, :, lead[a]], result[:, :, lead[b]] = raw[:, :, lead[b]], raw[:, :, lead[a]]
    return result


def of_sounds(
    test: np.ndarray,
    normalization: Normalization,
    rng: np.random.Generator,
    dataset: dict[str, Any],
) -> Foreign:
    settings = {key: value for key, value in dataset["representation"].items() if key != "kind"}
    parameters = sound.ExtractFeatures(**settings)
    rate = int(parameters.sampling_rate or 16000)
    samples = (test.shape[1] - 1) * parameters.hop
    new = {f"machine {number}, unknown": machine(number, rate, samples) for number in NEW_MACHINES}
    noise = [0.05 * rng.standard_normal(samples) for _ in range(CLIPS)]
    return {
        name: [
            normalization.apply(spectrogram)
            for part in sound.extract(waveforms, rate, parameters)
            for spectrogram in part.spectrograms
        ]
        for name, waveforms in {**new, "white noise": noise}.items()
    }


def machine(number: int, rate: int, samples: int) -> list[np.ndarray]:
    """Normal clips of a simulated machine, in the hall where the others stand (seed 1)."""
    grid = Grid(samples, rate)
    factory, made = build_factory(1, grid), build_machine(number, 1, grid)
    return [
        clip_sound(made, factory, "", (-6.0, 0.0, 6.0)[clip % 3], stream(1, number, 1, clip))
        for clip in range(CLIPS)
    ]


if __name__ == "__main__":
    sys.exit(main())
