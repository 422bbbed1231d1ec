"""The blocks of params.yaml for recordings that were looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from beatline.commands.new_look import LONGEST_COMMENT, Look, is_plain, plausible_unit
from beatline.common import params
from beatline.common.errors import UserError, listed, shown
from beatline.datasets import by_number

WINDOW = 2.5  # s of a recording that a network looks at, as for PTB-XL
LONGEST = 500  # steps that it looks at as a whole
PASSES = 40_000  # recordings that a training sees about, so that it takes minutes


def found(name: str, seen: Look) -> list[str]:
    """Lines of comments on what there is; params.yaml is in Git, so that they tell of nobody."""
    good = [each for each in seen.files if not each.problem]

    def counted(values: list[Any]) -> str:
        common = Counter(values).most_common(4)
        more = f" and {len(set(values)) - 4} others" if len(set(values)) > 4 else ""
        if len(common) == 1:
            return str(common[0][0])
        return ", ".join(f"{value} ({times})" for value, times in common) + more

    lengths = [
        f"{each.steps / each.rate:g} s" if each.rate else f"{each.steps} samples" for each in good
    ]
    channels = [
        listed(plain := list(filter(is_plain, each.channels)))
        + (f" and {more} not shown" if (more := len(each.channels) - len(plain)) else "")
        for each in good
    ]
    units = [
        ", ".join(sorted(set(map(plausible_unit, each.units)))) if each.units else "not said"
        for each in good
    ]
    flags = Counter(flag for each in good for flag in each.flags or {})
    classes = ", ".join(f"{label} {times}" for label, times in seen.classes.most_common(12))
    lines = [
        f"{name}: what `beatline new dataset` found, to be checked",
        f"table: {seen.rows} rows, {seen.matched} of which name one of {seen.candidates} files",
        f"formats: {counted([each.kind for each in good])}, of {len(seen.files)} files that were read",
        f"channels: {counted(channels)}",
        f"sampling rate: {counted([f'{each.rate:g} Hz' if each.rate else 'not said' for each in good])}",
        f"length: {counted(lengths)}",
        f"unit: {counted(units)}",
        f"classes: {classes}"
        + (f" and {len(seen.classes) - 12} more" if len(seen.classes) > 12 else ""),
        f"patients: {seen.patients or 'not known'}",
    ]
    if flags:
        lines.append("quality: " + ", ".join(f"{n} {flag}" for flag, n in flags.items()))
    if seen.bad:
        lines.append(f"{len(seen.bad)} files cannot be read, such as {seen.bad[0].name}")
    lines += [f"NOT SURE: {sentence}" for sentence in seen.unsure]
    return [f"# {shown(' '.join(line.split()), LONGEST_COMMENT)}" for line in lines]


def dataset_block(
    name: str, source: Path, seen: Look, normal: str | None, *, anomaly: bool
) -> list[str]:
    """The lines of `datasets.<name>`."""
    rate = seen.most(lambda each: each.rate)
    steps, channels = seen.steps, seen.most(lambda e: e.channels if e.named else None)
    download: dict[str, Any] = {
        "source": source.as_posix(),
        "sha256": None,
        "table": seen.table,
        "file": seen.columns["file"],
        "labels": seen.labels if len(seen.labels) > 1 else seen.labels[0],
        "separator": seen.separator,
        **seen.columns,
        "leads": list(channels) if channels and all(map(is_plain, channels)) else [],
        "sampling_rate": rate,
        "seconds": steps / rate if rate else None,
        "shorter": "pad",
        "longer": "crop",
        "max_bad_files": max(20, seen.matched // 100),
    }
    labels: dict[str, Any] = {
        "map": {},
        "classes": sorted(seen.classes, key=by_number),
        "drop": [],
        "normal": normal,
    }
    if anomaly:
        labels |= {"task": "anomaly"}
    elif seen.several:
        labels |= {"task": "multilabel", "unlabelled": "keep" if len(seen.labels) > 1 else "drop"}
    else:
        labels |= {"task": "binary" if len(seen.classes) == 2 else "multiclass"}
    labels |= {"min_records": 10 if seen.matched >= 500 else 3, "quality": {"drop": []}}
    block = {
        "module": "recordings",
        "download": download,
        "aggregate_labels": labels,
        "split": {
            "method": "official" if seen.official else "stratified",
            "by": "patient" if "patient" in seen.columns else "record",
            "train": 0.7,
            "validation": 0.15,
            "test": 0.15,
            "seed": 1,
        },
        "normalize": {
            "recordings": f"data/raw/{name}.zip",
            "per": "channel",
            "invalid": "median" if steps == 1 else "mean",
        },
    }
    comments = {
        "sampling_rate": "Hz; others are resampled to it",
        "seconds": "the length; what is shorter",
        "shorter": "is filled up: pad | reject",
        "longer": "is cut: crop | reject",
        "max_bad_files": "so many are skipped; more are an error",
        "task": "multilabel | multiclass | binary | anomaly",
        "normal": "the label of what is normal, if any",
        "min_records": "a class with fewer is left out",
    }
    return ["", *found(name, seen), *as_yaml({name: block}, comments)]


def training_block(name: str, model: str, seen: Look) -> list[str]:
    """The lines of `train.<model>.<name>`: a small network, for minutes on two cores."""
    rate, steps = seen.most(lambda each: each.rate), seen.steps
    epochs = min(30, max(5, PASSES // max(1, seen.matched)))
    optimizer = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.01}
    block: dict[str, Any]
    if model == "mlp":
        block = {
            "architecture": {"dense": [128, 64], "batch_norm": True, "dropout": 0.3},
            "augment": {"noise": 0.1},
            "optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.05},
        }
    elif model == "autoencoder":
        block = {
            "architecture": {"dimensions": 1, "filters": [16, 32, 64, 64, 8], "kernel": 5},
            "optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.0},
        }
    else:
        block = {
            "architecture": {
                "dimensions": 1,
                "blocks": "residual",
                "stem_kernel": 7,
                "filters": [32, 32, 64],
                "kernels": [5, 3],
                "strides": [2, 2, 2] if steps >= 64 else [1, 1, 2],
                "pooling": "average_max",
                "dropout": 0.3,
            },
            "optimizer": optimizer,
        }
    if model != "mlp" and steps > LONGEST:
        window = round(WINDOW * rate) if rate and rate >= 50 else LONGEST // 2
        block["windows"] = {"length": min(steps, max(64, window))}
    multiclass = model == "cnn" and not seen.several and len(seen.classes) > 2
    monitor = "loss" if model != "cnn" else "accuracy" if multiclass else "auc"
    block |= {"epochs": epochs, "batch_size": 64 if seen.matched >= 500 else 16, "monitor": monitor}
    return as_yaml({name: block}, {})


def as_yaml(content: dict[str, Any], comments: dict[str, str]) -> list[str]:
    """Lines of YAML; lists in blocks and without a comment beside them, since DVC moves such comments."""
    stream = StringIO()
    yaml = YAML()
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "")
    )
    yaml.dump(content, stream)
    lines = []
    for line in stream.getvalue().splitlines():
        line = line.rstrip()
        key = re.match(r" *([a-z_]+):", line)
        comment = comments.get(key[1]) if key else None
        lines.append(f"{line:<30} # {comment}" if comment else line)
    return lines


def inserted(text: str, place: Sequence[str], lines: Sequence[str]) -> str:
    """The text of params.yaml with `lines` at the end of the block at `place`, indented as what is there;
    all lines that are there stay. Raises UserError if that block is not written in lines."""
    content = YAML().load(text)
    own = text.splitlines()
    block, start, end, indent = content, 0, len(own), ""
    for depth, key in enumerate(place):
        if key not in block:  # such as a model that nothing is trained by yet
            lines = [f"{key}:", *(f"  {line}" if line else "" for line in lines)]
            break
        keys = list(block)
        after = keys[keys.index(key) + 1 :]
        start = block.lc.key(key)[0]
        end = block.lc.key(after[0])[0] if after else end
        block = block[key]
        if not isinstance(block, CommentedMap) or not block or block.fa.flow_style():
            raise UserError(
                f"{params.PATH}: {'.'.join(place[: depth + 1])} is empty or written in braces: write "
                f"it in lines, an entry below the other"
            )
        indent = " " * block.lc.key(next(iter(block)))[1]
    else:
        indent = " " * block.lc.key(next(iter(block)))[1]
    while end > start + 1 and (not own[end - 1].strip() or _is_outer_comment(own[end - 1], indent)):
        end -= 1
    added = [f"{indent}{line}" if line else "" for line in lines]
    return "\n".join([*own[:end], *added, *own[end:]]) + "\n"


def _is_outer_comment(line: str, indent: str) -> bool:
    """Whether a line is a comment on what comes behind the block."""
    return line.lstrip().startswith("#") and len(line) - len(line.lstrip()) < len(indent)
