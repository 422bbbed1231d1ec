"""How long stages and commands take to start, beside the libraries that they cannot do without.

Run with `python -m benchmarks.startup`. Processor seconds of importing each, in a process of its own, the
least of ROUNDS in turn; a training also imports torch's compiler, which its optimizers load, and is timed
with that. Exits 1 if a stage takes more than LONGEST times as long as its libraries.
"""

from __future__ import annotations

import subprocess
import sys

ROUNDS, LONGEST = 5, 2.0
TABLES = "pandas, pydantic"
NETWORKS = f"torch, {TABLES}"
STARTS = {
    "stages.normalize": TABLES,
    "stages.train, torch._dynamo": f"{NETWORKS}, onnx, onnxruntime, torch._dynamo",
    "stages.evaluate": f"{NETWORKS}, onnx, onnxruntime",
    "stages.report": f"{TABLES}, matplotlib.figure, jinja2, markdown_it",
    "beatline.commands.validate": NETWORKS,
    "beatline.commands.repro": f"{NETWORKS}, dvc.repo",
    "beatline.commands.compare": f"{TABLES}, matplotlib.figure, dvc.repo",
    "beatline.commands.serve": f"{TABLES}, sqlalchemy",
}


def main() -> int:
    """Print a row for each; return the exit status."""
    print(f"{'':30}{'seconds':>8}{'libraries':>11}")
    too_long = []
    for name, libraries in STARTS.items():
        seconds = {what: float("inf") for what in (name, libraries)}
        for _ in range(ROUNDS):
            for what in seconds:
                seconds[what] = min(seconds[what], imported(what))
        own, least = seconds[name], seconds[libraries]
        print(f"{name:30}{own:8.2f}{least:11.2f}   {own / least:.2f} x", flush=True)
        too_long += [name] if own > LONGEST * least else []
    for name in too_long:
        print(f"{name} takes more than {LONGEST:g} times as long as its libraries")
    return int(bool(too_long))


def imported(what: str) -> float:
    """Processor seconds that importing takes, without the start of Python itself."""
    clock = "time.process_time()"
    program = f"import time; began = {clock}; import {what}\nprint({clock} - began)"
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
