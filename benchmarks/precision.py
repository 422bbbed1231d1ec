"""What `precision: auto` chooses for each network of params.yaml, and how fast both precisions are.

Run with `python -m benchmarks.precision` where `dvc repro` has run: steps with a batch of noise of each
data set's shape are timed, in float32 and in 16 bits in turn, on the device at hand. Exits 1 if what is
chosen takes more than 1.1 times as long as the other.
"""

from __future__ import annotations

import itertools
import sys
from functools import partial
from pathlib import Path

from beatline.bundle import model as bundle
from beatline.common import params
from beatline.prediction import devices
from beatline.training import precision
from beatline.training.data import load_training_data
from beatline.training.parameters import Train, parameters_of

ROUNDS, LONGEST = 3, 1.1


def main() -> int:
    """Print a row for each network; return the exit status."""
    device, content, wrong = devices.choose(), params.load(), []
    devices.keep_freed_memory()
    devices.make_deterministic(seed=1)
    print(f"{'':28}{'float32':>12}{'16 bits':>12}   (milliseconds a step, on {device.type})")
    for model, names in content["train"].items():
        for name in names:
            architecture, parameters = parameters_of(content, model, name)
            if not isinstance(parameters, Train):
                continue  # it learns without gradients
            key = f"train.{model}.{name}"
            data = load_training_data(Path(f"data/normalized/{name}"), model, key, device)
            recordings = data.train.recordings
            windows = parameters.windows.completed(recordings.length, key)
            described = {"name": model, "parameters": architecture.model_dump()}
            info = {"architecture": described, **data.description, "windows": windows.model_dump()}
            network = bundle.network_of(info, key).to(device).train()
            size = parameters.batch_size, windows.steps(recordings.length), recordings.channels
            chosen = precision.chosen("auto", network, data.task, size, device)
            other = "float32" if chosen != "float32" else precision.narrow(device)
            step = precision.step(network, data.task, size, device)
            seconds: dict[str, float] = {}
            for _, each in itertools.product(range(ROUNDS), (chosen, other)):
                taken = precision.fastest(partial(step, precision.TYPES[each]), device)
                seconds[each] = min(taken, seconds.get(each, taken))
            both = ("float32", precision.narrow(device))
            row = "".join(f"{1000 * seconds[each]:12.2f}" for each in both)
            ratio = seconds[other] / seconds[chosen]
            print(f"{model:12}{name:16}{row}   {chosen}, {ratio:.2f} x", flush=True)
            wrong += [key] if ratio < 1 / LONGEST else []
    for key in wrong:
        print(f"{key}: the other precision is faster")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
