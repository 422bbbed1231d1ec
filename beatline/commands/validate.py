"""Check every block of params.yaml, before anything runs.

The stages check the same blocks against the same schemas, each its own; here a mistake in the last
stage's block is found before the first stage has begun.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from beatline import datasets, features
from beatline.common import params
from beatline.common.errors import UserError, warn
from beatline.comparing.differences import Compare
from beatline.evaluation import estimates
from beatline.lineage.lock import DVC_LOCK, is_sound
from beatline.monitoring.settings import Monitoring
from beatline.preprocessing import normalization, splitting
from beatline.reporting.settings import Report
from beatline.serving import registry
from beatline.serving.settings import Serve
from beatline.training import parameters


def validate(content: dict[str, Any]) -> tuple[int, int]:
    """The numbers of data sets and of training runs. Raises UserError for the first mistake."""
    for name in content["datasets"]:
        _validate_dataset(content, name)
    for name in content["extract_features"]:
        features.parameters_of(content, name)
    params.block(content, "training", parameters.Training)
    runs = [(model, name) for model, names in content["train"].items() for name in names or {}]
    for model, name in runs:
        parameters.parameters_of(content, model, name)
    params.block(content, "evaluate", estimates.Evaluate)
    params.block(content, "report", Report)
    params.block(content, "compare", Compare)
    registry.check_behind(params.block(content, "serve", Serve), registry.wanted(content))
    params.block(content, "monitoring", Monitoring)
    return len(content["datasets"]), len(runs)


def _validate_dataset(content: dict[str, Any], name: str) -> None:
    key = f"datasets.{name}"
    module = datasets.module(params.block_of(content, f"{key}.module"))
    schemas = {
        "download": module.Download,
        "aggregate_labels": module.AggregateLabels,
        "split": splitting.Split,
        "normalize": normalization.Normalize,
    }
    blocks = {
        stage: params.block(content, f"{key}.{stage}", schema) for stage, schema in schemas.items()
    }
    source, recordings = blocks["download"].source, blocks["normalize"].recordings
    extracted = {other: f"data/features/{other}" for other in content["extract_features"]}
    raw = {other: f"data/raw/{other}.zip" for other in content["datasets"]}
    own = [raw.pop(name), *([extracted[name]] if name in extracted else [])]
    if recordings not in own:
        raise _unknown(f"{key}.normalize.recordings", recordings, own)
    if Path(source).parts[:1] == ("data",):  # which holds what stages make, and nothing else
        made = [*raw.values(), *extracted.values()]
        if source.rstrip("/") not in made:
            raise _unknown(f"{key}.download.source", source, made)
    elif not Path(source).exists():
        warn(
            f"{key}.download.source: {source} is not here, so that download@{name} cannot run: bring it "
            f"back, or write where it is"
        )


def _unknown(key: str, value: str, known: list[str]) -> UserError:
    return UserError(
        f"{params.PATH}: {key}: {value} is not what a stage can start from here (known: "
        f"{', '.join(known)})"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print how much the file lists. Raises UserError for the first mistake."""
    del options
    data_sets, runs = validate(params.load())
    if DVC_LOCK.exists() and not is_sound(DVC_LOCK.read_text(errors="replace")):
        raise UserError(f"{DVC_LOCK} is damaged: run `beatline repro`, which restores it")
    print(f"{params.PATH} is valid: {data_sets} data sets, {runs} training runs")
    return 0
