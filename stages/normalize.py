"""normalize: every recording scaled by what the training recordings say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from beatline import datasets
from beatline.common import params, sums
from beatline.common.errors import UserError, concerning, run_stage, warn
from beatline.common.files import read_json
from beatline.preprocessing import arrays, normalization, splitting
from beatline.preprocessing.arrays import Reader
from beatline.sources.pack import Pack


def main(name: str) -> None:
    content = params.load()
    parameters = params.block(content, f"datasets.{name}.normalize", normalization.Normalize)
    recordings = Path(parameters.recordings)
    if recordings not in (own := (Path(f"data/raw/{name}.zip"), Path(f"data/features/{name}"))):
        raise UserError(
            f"datasets.{name}.normalize.recordings: {recordings} is of other recordings: name "
            f"{' or '.join(map(str, own))}"
        )
    labels = Path(f"data/labels/{name}")
    description = read_json(sums.verified(labels / "dataset.json"))
    if recordings.is_dir():  # what extract_features made of the recordings says what it is
        description |= read_json(sums.verified(recordings / "dataset.json"))
    table, split = datasets.labels_and_split(name, ("normal",), description["sections"])
    output = Path(f"data/normalized/{name}")

    module = params.block_of(content, f"datasets.{name}.module")
    with concerning(f"datasets.{name}"), _reader(recordings, module) as read:
        train = table.loc[split == "train", "record"].to_list()
        batches = _Shown(read, train, "fit on train")
        fitted = normalization.fit(batches, parameters, description["channels"])
        encoding = arrays.Encoding(parameters.store, fitted.largest)
        invalid = 0
        for part in splitting.SPLITS:
            records = table.loc[split == part].reset_index(drop=True)
            counted = _Counted(_Shown(read, records["record"].to_list(), f"normalize {part}"))
            arrays.write_split(output / part, map(fitted.apply, counted), records, encoding)
            invalid += counted.invalid_samples

    constant = [description["channels"][number] for number in fitted.constant_channels]
    counts = {"invalid_samples": invalid, "constant_channels": len(constant)}
    if parameters.store != "float32":
        counts["clipped_samples"] = encoding.clipped
    if encoding.clipped:
        warn(
            f"datasets.{name}.normalize.store: {encoding.clipped:,} samples did not fit "
            f"{parameters.store} and were clipped: set it to float32 to keep them as they are"
        )
    description |= {
        "counts": {**description["counts"], **counts},
        "length": arrays.load_split(output / "test").signals.shape[1],
        "normalization": fitted.as_dict(),
        "typical": normalization.typical(arrays.load_split(output / "train").signals),
    }
    sums.write_sealed_json(output / "dataset.json", description, digits=17)
    print(
        f"invalid samples set to the {parameters.invalid}: {invalid}; "
        f"constant channels: {constant or 'none'}"
    )


@contextmanager
def _reader(recordings: Path, module: str) -> Iterator[Reader]:
    """Reads recordings by name, from the raw pack or from what extract_features made of it."""
    if recordings.is_dir():
        yield arrays.reader(recordings / "recordings")
        return
    dataset = datasets.module(module)
    with Pack(recordings) as pack:
        yield partial(dataset.read_recordings, pack)


class _Shown:
    """The recordings called `names` as batches, with progress, each time that they are iterated over."""

    def __init__(self, read: Reader, names: list[str], doing: str) -> None:
        self.read, self.names, self.doing = read, names, doing

    def __iter__(self) -> Iterator[np.ndarray]:
        with tqdm(
            total=len(self.names), desc=self.doing, mininterval=10, unit=" records"
        ) as progress:
            for batch in self.read(self.names):
                yield batch
                progress.update(len(batch))


class _Counted:
    """Batches as they come, and how many of their samples were invalid."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches = batches
        self.invalid_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self.batches:
            self.invalid_samples += int(np.count_nonzero(~np.isfinite(batch)))
            yield batch


if __name__ == "__main__":
    run_stage(main)
