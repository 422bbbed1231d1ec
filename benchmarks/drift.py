"""How long `beatline drift` takes over many answers, and how much memory.

``python -m benchmarks.drift [ANSWERS]`` writes a log of 100,000 answers of a model of 12-lead ECGs, with
174 numbers of embedding and five probabilities each, and checks it. The baseline are the same
permutations by SciPy, column after column. Exits with status 1 if the check takes more than 10 s of
the processor or 500 MB, or finds drift where there is none.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from beatline import bundle
from beatline.monitoring import two_samples
from beatline.monitoring.answers import Answer, AnswerLog
from beatline.monitoring.drift import MOST_RECORDS, PERMUTATIONS
from beatline.training import familiarity, reference
from tests import parameters
from tests.bundle.bundles import HISTORY, made

LONGEST, MOST_MEGABYTES = 10.0, 500.0
CLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SAMPLES, VALIDATION, AT_ONCE, MODEL = 250, 500, 5000, "ptbxl/cnn"
# The system's own count of a child's memory begins with that of its parent.
CHECK = """
import sys
from pathlib import Path
from beatline import cli
status = cli.main(sys.argv[1:])
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
sys.exit(status)
"""
COLUMNS, OF_BASELINE = 26, 3  # columns of such a model, permutations of the baseline


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = save(folder / "data/models" / MODEL)
        fill(folder / "answers.db", weights, count)
        content = parameters.content()
        content["monitoring"]["log"] = "answers.db"
        (folder / "params.yaml").write_text(yaml.safe_dump(content))
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-c", CHECK, "drift", MODEL]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    *printed, peak = done.stdout.splitlines() or ["0"]
    megabytes = int(peak.split()[1]) * 1024 / 1e6
    print(*printed, sep="\n")
    print(
        f"{count:,} answers: {seconds:.1f} s of the processor, {wall:.1f} s by the clock, at most "
        f"{megabytes:.0f} MB, the report included"
    )
    show_baseline()
    return int(done.returncode != 0 or seconds > LONGEST or megabytes > MOST_MEGABYTES)


def ecgs(count: int, seed: int) -> np.ndarray:
    """Noise of 12 leads, each recording as loud as it happens to be, `[N, T, C]`."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, SAMPLES, len(LEADS)), np.float32)
    return noise * rng.uniform(0.5, 2, (count, 1, 1)).astype(np.float32)


def save(folder: Path) -> str:
    """Write a bundle; return the SHA-256 of its weights."""
    _, model_info = made()
    model_info["dataset"] |= {"channels": LEADS, "length": SAMPLES}
    normalization = {"mean": 0.0, "standard_deviation": 1.0, "fill": 0.0}
    model_info |= {
        "classes": CLASSES,
        "thresholds": [0.5] * len(CLASSES),
        "windows": {"length": SAMPLES, "stride": None, "aggregate": "mean"},
        "normalization": {
            **{key: [value] * len(LEADS) for key, value in normalization.items()},
            "constant_channels": [],
        },
    }
    dataset, signals = model_info["dataset"], ecgs(VALIDATION, 1)
    known = familiarity.fit(ecgs(VALIDATION, 0), signals, dataset)
    assert known
    scores = np.random.default_rng(2).random((VALIDATION, len(CLASSES)), np.float32)
    kept = reference.taken(signals, scores, scores > 0.5, known, dataset)
    network = bundle.network_of(model_info, "benchmark")
    bundle.save(folder, network, model_info, HISTORY, known, kept)
    return bundle.load(folder).description["weights_sha256"]


def fill(path: Path, weights: str, count: int) -> None:
    """Write answers about further recordings of the same kind: a few thousand, over and over."""
    rng, signals = np.random.default_rng(3), ecgs(MOST_RECORDS, 4)
    dataset: dict[str, Any] = {"drawing": "trace", "length": SAMPLES}
    embeddings = [familiarity.features(signal, dataset) for signal in signals]
    beginning = datetime.now(UTC) - timedelta(days=7)
    with AnswerLog(str(path)) as log:
        for begin in range(0, count, AT_ONCE):
            scores = rng.random((AT_ONCE, len(CLASSES)), np.float32)
            log.write(
                [
                    Answer(
                        id=uuid.uuid4().hex,
                        moment=beginning + timedelta(seconds=number),
                        dataset="ptbxl",
                        model="cnn",
                        weights=weights,
                        version=None,
                        role="champion",
                        scores=own,
                        decisions=own > 0.5,
                        warnings=[],
                        seconds=0.01,
                        embedding=embeddings[number % len(embeddings)],
                    )
                    for number, own in enumerate(scores[: count - begin], begin)
                ]
            )


def show_baseline() -> None:
    """Print the seconds of all permutations of columns by ours and by SciPy."""
    pooled = np.random.default_rng(0).standard_normal((VALIDATION + MOST_RECORDS, COLUMNS))
    membership = two_samples.memberships(VALIDATION, MOST_RECORDS, PERMUTATIONS)
    began = time.perf_counter()
    two_samples.cramer_von_mises(pooled, membership)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    for inside in membership[:OF_BASELINE]:
        for column in pooled.T:
            stats.cramervonmises_2samp(column[inside], column[~inside], method="asymptotic")
    baseline = (time.perf_counter() - began) / OF_BASELINE * len(membership)
    print(
        f"{len(membership)} permutations of {COLUMNS} columns: {ours:.1f} s, by SciPy {baseline:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
