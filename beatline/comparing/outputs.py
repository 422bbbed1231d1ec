"""Compare the outputs of two runs of the pipeline file by file, except identity and durations.

Identity is who made a number (revision, code, machine), and differs whenever code does. In JSON files it
stands under the key `identity`; in reports and cards the lines that hold it are passed over, and those
that hold durations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from beatline.common.sums import KEY, SUMS
from beatline.lineage.lock import DURATIONS, read

WIDTH = 60  # characters of a value that is shown
# Lines of reports and cards, as Markdown and as text of the page, that hold identity or durations.
PASSED_OVER = re.compile(
    r"what-made-these-numbers|trained by revision|training time \(s\)|time per prediction \(ms\)"
    r"|(?:\| |>)(?:trained|evaluated)(?: \||<)|Changes \d+: uncommitted|Environment \w+:"
    r"|This report and its cards were written by|stages? made the data|\b[0-9a-f]{32}\b"
    r"|(?:\b[0-9a-f]{12}\b.*){3}"  # what each model was evaluated with
)


@dataclass(frozen=True)
class Run:
    """The outputs of a run of the pipeline in the folder `root`. `outs`: MD5 by path, by stage."""

    root: Path
    outs: dict[str, dict[str, str | None]]


@dataclass(frozen=True)
class Comparison:
    """Groups of stages, a group being the stages that a template in dvc.yaml makes (`train_cnn`): the
    `same` ones; the `different` ones, with a line for each file; and the names of stages that one side
    alone has."""

    same: list[str]
    different: dict[str, list[str]]
    removed: list[str]
    added: list[str]

    @property
    def all_same(self) -> bool:
        return not (self.different or self.removed or self.added)


def group_of(stage: str) -> str:
    """Return the part of a stage's name before its data set."""
    return stage.partition("@")[0]


def run_in(root: Path) -> Run:
    """Return what dvc.lock in `root` says that a run has made."""
    stages = read(root)
    return Run(
        root,
        {
            stage: {out["path"]: out.get("md5") for out in entry.get("outs", ())}
            for stage, entry in stages.items()
        },
    )


def compare(base: Run, now: Run) -> Comparison:
    """Compare every output of the stages that both runs have."""
    lines: dict[str, list[str]] = {}
    for stage in [name for name in now.outs if name in base.outs]:
        lines.setdefault(group_of(stage), []).extend(_stage_differences(stage, base, now))
    return Comparison(
        same=[group for group, differences in lines.items() if not differences],
        different={group: differences for group, differences in lines.items() if differences},
        removed=[stage for stage in base.outs if stage not in now.outs],
        added=[stage for stage in now.outs if stage not in base.outs],
    )


def _stage_differences(stage: str, base: Run, now: Run) -> Iterator[str]:
    before, after = base.outs[stage], now.outs[stage]
    for path in dict.fromkeys([*before, *after]):
        if path not in after or path not in before:
            yield f"{path}: {'no output any more' if path in before else 'a new output'}"
        elif path.startswith(DURATIONS) or (before[path] and before[path] == after[path]):
            continue  # DVC has read the bytes of both
        else:
            yield from _output_differences(path, base.root, now.root)


def _output_differences(path: str, base: Path, now: Path) -> Iterator[str]:
    files = [_files(root, path) for root in (base, now)]
    for name in sorted(files[0] | files[1]):
        if name not in files[1] or name not in files[0]:
            yield f"{name}: {'missing' if name in files[0] else 'added'}"
        elif first := difference(base / name, now / name):
            yield f"{name}: {first}"


def _files(root: Path, path: str) -> set[str]:
    inside = (root / path).rglob("*") if (root / path).is_dir() else [root / path]
    # Sums of files say of nothing more than the files, which hold identity.
    return {
        file.relative_to(root).as_posix() for file in inside if file.is_file() and file.name != SUMS
    }


def difference(before: Path, after: Path) -> str | None:
    """Return the first place where two files differ, in words; None if they are the same, except
    identity and durations."""
    contents = before.read_bytes(), after.read_bytes()
    if contents[0] == contents[1]:
        return None
    try:
        if after.suffix == ".json":
            return _json_difference(*contents)
        if after.suffix in (".md", ".html"):
            return _line_difference(*(_report_lines(content.decode()) for content in contents))
        if after.suffix == ".csv":
            return _line_difference(*(content.decode().split("\n") for content in contents))
        if after.suffix == ".npy":
            return _array_difference(np.load(before), np.load(after))
    except ValueError:  # not what its name says
        pass
    return f"other bytes ({len(contents[1]):,} of them, were {len(contents[0]):,})"


def _report_lines(text: str) -> list[str]:
    """The lines of a report, a row of a table being one, less those that are passed over."""
    text = re.sub(r"<tr>.*?</tr>", lambda row: " ".join(row[0].split()), text, flags=re.DOTALL)
    return [line for line in text.split("\n") if not PASSED_OVER.search(line)]


def _json_difference(before: bytes, after: bytes) -> str | None:
    contents = json.loads(before), json.loads(after)
    without = [_without_identity(content) for content in contents]
    if first := _value_difference(without[0], without[1], ""):
        return first
    return None if without[0] != contents[0] else "the same content, written in another way"


def _without_identity(content: Any) -> Any:
    """The content of a JSON file less every key `identity` in it, and the sum of what holds them."""
    if isinstance(content, dict):
        kept = content.keys() - {"identity", KEY}
        return {key: _without_identity(content[key]) for key in content if key in kept}
    if isinstance(content, list):
        return [_without_identity(value) for value in content]
    return content


def _value_difference(before: Any, after: Any, key: str) -> str | None:
    """The first place where two contents differ, by its dotted key; the order of keys counts."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *after]:
            if (name in before) != (name in after):
                return f"{key}{name}: {'added' if name in after else 'missing'}"
        if list(before) != list(after):
            return f"{key}*: the keys stand in another order"
        pairs = [(name, before[name], after[name]) for name in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(n), *pair) for n, pair in enumerate(zip(before, after, strict=True))]
    else:
        texts = json.dumps(before), json.dumps(after)
        return None if texts[0] == texts[1] else f"{key.rstrip('.')}: {_changed(*texts)}"
    differences = (_value_difference(was, value, f"{key}{name}.") for name, was, value in pairs)
    return next(filter(None, differences), None)


def _line_difference(before: list[str], after: list[str]) -> str | None:
    for number, (was, line) in enumerate(zip_longest(before, after, fillvalue=""), 1):
        if was != line:
            return f"line {number}: {_changed(was, line)}"
    return None if len(before) == len(after) else "other ends of lines"


def _array_difference(before: np.ndarray, after: np.ndarray) -> str:
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        return _changed(*(f"{array.dtype} {list(array.shape)}" for array in (before, after)))
    if not np.issubdtype(before.dtype, np.number):
        return "other values"
    largest = np.nanmax(np.abs(after.astype(float) - before.astype(float)), initial=0.0)
    return f"differs by {largest:.3g} at most, in {np.count_nonzero(before != after):,} values"


def _changed(before: str, after: str) -> str:
    """Both values, from a little before where they differ."""
    pairs = enumerate(zip_longest(before, after))
    place = next((place for place, (was, value) in pairs if was != value), 0)
    start = max(0, place - WIDTH // 2)
    was, value = (text[start : start + WIDTH].strip() or "nothing" for text in (before, after))
    return f"{value}, was {was}"
