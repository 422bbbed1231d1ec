"""A bundle as a model of MLflow's: this file and the bundle's files are all that it needs.

It is loaded with NumPy, pandas and ONNX Runtime alone::

    model = mlflow.pyfunc.load_model("models:/ptbxl.cnn@champion")
    table = model.predict(recordings)

`recordings`: raw ones `[N, T, C]` float32, in the unit, at the sampling rate and in the order of channels
that model.json names under `dataset`; sounds as the log-mel spectrograms that `representation` there
describes; of a table a DataFrame with its columns. NaN marks an invalid sample. They are normalized here,
cut into windows, and the predictions of the windows put together, as the service does.

The answer has a row per recording: the probability of each class and what is `decided`, or `score`,
`threshold` and `anomaly`. Not done here, and done by the service: reading files, converting units and
sampling rates, warnings of what is odd or unfamiliar about a recording.

Every file is compared with the bundle's SHA256SUMS before it is used, and nothing is unpickled.
"""

# MLflow executes this file where Beatline is not installed: it must import none of its modules.
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which would begin it

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models.model import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

DETECTORS = ("reconstruction", "neighbours")  # tasks whose answer is an anomaly score
BATCH = 32  # windows in a run of the graph


class Recordings(PythonModel):
    """The model. Raises ValueError for a damaged bundle, and for recordings that do not fit."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check and open the bundle."""
        folder = Path(context.artifacts["bundle"])
        contents = _verified(folder)
        self.info: dict[str, Any] = json.loads(contents["model.json"])
        graph = contents.get("model.onnx", b"")
        if hashlib.sha256(graph).hexdigest() != self.info.get("graph_sha256"):
            raise ValueError(
                f"{folder}: model.onnx is not the one of model.json: register it again"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] (its base says nothing)
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # or a DataFrame: MLflow knows no type for both
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the table for recordings."""
        del context, params  # the signature is MLflow's
        values = np.stack([self._values(recording) for recording in self._normalized(model_input)])
        classes, thresholds = self.info["classes"], np.asarray(self.info["thresholds"])
        if self.info["task"] in DETECTORS:
            score, threshold = values[:, 0], float(thresholds[0])
            return pd.DataFrame(
                {"score": score, "threshold": threshold, "anomaly": score >= threshold}
            )
        if len(thresholds):
            decided = [
                " ".join(name for name, is_so in zip(classes, row, strict=True) if is_so)
                for row in values >= thresholds
            ]
        else:
            decided = [classes[number] for number in values.argmax(axis=1)]
        return pd.DataFrame(values, columns=classes).assign(decided=decided)

    def _normalized(self, recordings: Any) -> np.ndarray:
        """Recordings `[N, T, C]` as the network sees them, float32."""
        dataset = self.info["dataset"]
        channels, is_table = dataset["channels"], dataset["length"] == 1
        if isinstance(recordings, pd.DataFrame):
            if missing := [name for name in channels if name not in recordings.columns]:
                raise ValueError(f"the table has no column {missing[0]}: give all of {channels}")
            recordings = recordings.loc[:, channels]
        array = np.asarray(recordings, dtype=np.float64)
        if array.ndim == 2:
            array = array[:, None] if is_table else array[None]
        length = self._length
        is_fitting = array.ndim == 3 and len(array) and array.shape[2] == len(channels)
        if not is_fitting or array.shape[1] < length:
            raise ValueError(
                f"recordings of shape {list(array.shape)} do not fit: this model takes [N, T, C] with T "
                f"at least {length} and the {len(channels)} channels {', '.join(channels)}"
            )
        how = self.info["normalization"]
        valid = np.where(np.isfinite(array), array, np.asarray(how["fill"]))
        normalized = (valid - np.asarray(how["mean"])) / np.asarray(how["standard_deviation"])
        return normalized.astype(np.float32)

    @property
    def _length(self) -> int:
        """Samples of a window, without which the network sees nothing."""
        whole = self.info["dataset"]["length"]
        return min(self.info["windows"]["length"] or whole, whole)

    def _values(self, recording: np.ndarray) -> np.ndarray:
        """Predictions `[K]` for a normalized recording `[T, C]`: of its windows, put together."""
        how, last = self.info["windows"], len(recording) - self._length
        if how["length"] and last:
            first = list(range(0, last + 1, how["stride"] or self._length))
            first += [last] if first[-1] < last else []
            windows = np.stack([recording[start : start + self._length] for start in first])
        else:
            windows = recording[None]  # a network that looks at whole recordings
        parts = [
            np.asarray(
                self.session.run(["answers"], {"windows": windows[begin : begin + BATCH]})[0]
            )
            for begin in range(0, len(windows), BATCH)
        ]
        values = np.concatenate(parts, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("what the model gives for a recording is no number: check its unit")
        return values.mean(axis=0) if how["aggregate"] == "mean" else values.max(axis=0)


def _verified(folder: Path) -> dict[str, bytes]:
    """The content of the bundle's own files. Raises ValueError if they are not those it was sealed
    with."""
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    contents = {}
    for line in sums[:-1]:  # the last one is of the lines above
        digest, _, name = line.partition("  ")
        if "/" in name:
            continue  # bundles of other seeds, which are not used
        path = folder / name
        contents[name] = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ValueError(
                f"{path} is damaged (its SHA-256 is not that in SHA256SUMS): register it again"
            )
    above = "".join(f"{line}\n" for line in sums[:-1]).encode()
    if not sums or not sums[-1].startswith(f"# {hashlib.sha256(above).hexdigest()} "):
        raise ValueError(f"{folder / 'SHA256SUMS'} is damaged: register the model again")
    return contents


set_model(Recordings())
