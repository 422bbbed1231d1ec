"""Train networks in as many processes as the environment says: what test_processes starts.

`python -m tests.training.share <folder> <epochs> <names>`: the runs of test_loop's INTERRUPTED, each with
its checkpoint in the folder. Process 0 writes what came out beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import torch

from beatline.common.errors import reporting_mistakes
from beatline.prediction import inference
from beatline.training import processes
from beatline.training.checkpoint import State
from tests.training.test_loop import run_of

SHARDS = 4


def main() -> None:
    folder, epochs, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
    place = processes.place(SHARDS)
    processes.prepare(place, SHARDS)
    torch.use_deterministic_algorithms(True)
    inference.BATCH = 10  # so that validation has several batches to divide
    going_in = {"epochs": epochs, "packages": {"torch": os.environ.get("TORCH", "2")}}
    with processes.joined(place, going_in, ["-m", "tests.training.share", *sys.argv[1:]]) as group:
        for name in names:
            state = State(folder / f"{name}.state") if group.is_first else None
            changes = {} if name == "early_stopping" else {"epochs": epochs}
            network, history, best = run_of(name, state, group=group, shards=SHARDS, **changes)
            if group.is_first:
                digest = hashlib.sha256()
                for tensor in network.state_dict().values():
                    digest.update(tensor.contiguous().numpy().tobytes())
                content = [digest.hexdigest(), history.to_json(double_precision=15), best]
                (folder / f"{name}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    with reporting_mistakes(), suppress(BrokenPipeError):
        main()
