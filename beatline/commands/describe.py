"""Print what a trained model is and what made it, from its bundle alone."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from beatline import bundle
from beatline.bundle.model_info import find
from beatline.common.sums import check

WIDTH = 80
NOT_RECORDED = "not recorded"
SIMULATED = "SIMULATED recordings: its scores say nothing about real patients or machines."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the model."""
    parser.add_argument("model", help="a bundle's folder, or its name such as ptbxl/cnn")
    parser.add_argument(
        "--json", action="store_true", help="model.json and the files' SHA-256 sums"
    )


def run(options: argparse.Namespace) -> int:
    """Print it as YAML. Raises UserError if there is no such model, or it is damaged."""
    folder = find(options.model)
    model_info = bundle.load(folder).description
    sums = check(folder)
    if options.json:
        print(json.dumps({bundle.DESCRIPTION: model_info, "sha256": sums}, indent=2))
        return 0
    dataset = model_info["dataset"]
    name = model_info["architecture"]["name"]
    title = f"{folder}: {name} on {dataset.get('title', NOT_RECORDED)}"
    for line in (title, *([SIMULATED] if dataset.get("simulated") else [])):
        print("\n".join(textwrap.wrap(line, WIDTH, break_on_hyphens=False)))
    print(flush=True)
    _yaml().dump(summary(folder, model_info) | {"files_sha256": sums}, sys.stdout)
    return 0


def summary(folder: Path, model_info: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader wants to know of a model, in sections, from the content of its model.json."""
    dataset, identity, windows = (model_info[key] for key in ("dataset", "identity", "windows"))
    samples, channels = bundle.shape_of(model_info)
    thresholds = dict(zip(model_info["classes"], model_info["thresholds"] or (), strict=False))
    windowed = samples < dataset["length"]
    # Of bundles that say it not, those of networks have been asked for one.
    asked = "precision" in model_info["training"]
    untold = NOT_RECORDED if asked else "none: it is no network that learns by gradients"
    learned_in = model_info.get("precision", untold)
    return {
        "model": {
            "architecture": model_info["architecture"]["name"],
            "parameters": model_info.get("parameters", NOT_RECORDED),
            "task": model_info["task"],
            "classes": model_info["classes"],
            "sections": model_info["sections"] or "none",
            "input": f"[N, {dataset['length']}, {channels}]: recordings, samples, channels",
            "windows": {"samples": samples, **windows} if windowed else "none: whole recordings",
            "channels": dataset["channels"],
            "unit": dataset.get("unit") or NOT_RECORDED,
            "sampling_rate": dataset.get("sampling_rate") or "none: no axis of time in seconds",
            "thresholds": thresholds or "none: the most probable class is decided",
            "best_epoch": model_info["best_epoch"],
            "learned_in": learned_in,
            "temperature": model_info.get("temperature") or "none: not calibrated",
            "mean_of_seeds" if model_info.get("members") else "other_seeds": [
                path.name for path in bundle.other_seeds(folder)
            ],
        },
        "data": {
            key: dataset.get(key, NOT_RECORDED)
            for key in ("title", "source", "simulated", "citation", "representation")
        },
        "hyperparameters": {
            "architecture": model_info["architecture"]["parameters"],
            **model_info["training"],
        },
        "made_by": {
            **_revision(identity.get("git")),
            "code_sha256": identity["code"],
            "data_sha256": identity["data"],
            "environment": identity.get("environment") or NOT_RECORDED,
        },
        "stages_before": _stages_before(identity),
    }


def _revision(git: dict[str, Any] | None) -> dict[str, Any]:
    if git is None or git["revision"] is None:
        reason = (
            ": there was no Git repository that holds the project and its history" if git else ""
        )
        return {"revision": NOT_RECORDED + reason}
    state = {} if git["clean"] else {"changed_or_new": git["changed"]}
    return {"revision": git["revision"], "clean": git["clean"], **state}


def _stages_before(identity: dict[str, Any]) -> Any:
    """Parameters, and files with their MD5 sums, of each stage that the training builds on."""
    if identity.get("pipeline") is None:
        return NOT_RECORDED + (": DVC did not run the training" if "pipeline" in identity else "")
    return {
        name: {
            "parameters": stage["params"],
            "read_md5": {path: md5 or NOT_RECORDED for path, md5 in stage["deps"].items()},
            "made_md5": {path: md5 or NOT_RECORDED for path, md5 in stage["outs"].items()},
        }
        for name, stage in identity["pipeline"].items()
    }


class _Representer(RoundTripRepresenter):
    """Mappings in blocks, lists in a line."""


_Representer.add_representer(
    list,
    lambda representer, values: representer.represent_sequence(
        "tag:yaml.org,2002:seq", values, flow_style=True
    ),
)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = WIDTH
    return yaml
