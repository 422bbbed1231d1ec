"""What `make same` takes for the same: identity and durations may differ, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from beatline import cli
from beatline.commands import same
from beatline.comparing import outputs

Outputs = dict[str, dict[str, bytes]]  # by stage and path
MODEL = "data/models/a/cnn/model.json"
TRAIN = "data/durations/a/cnn/train.json"
REPORT = "reports/report.md"
CURVES = "reports/plots/a.csv"


def identity(revision: str, code: str, clean: bool = True) -> dict[str, Any]:
    return {
        "git": {"revision": revision * 40, "clean": clean, "changed": [] if clean else ["a.py"]},
        "data": "d" * 64,
        "code": code * 64,
        "environment": {"python": "3.11", "device": "cpu (x)", "machine": {"cores": len(code)}},
        "pipeline": {f"split_{code}@a": {"outs": {"data/splits/a.csv": "5" * 32}}},
        "model": "3" * 64,
    }


def model(who: dict[str, Any], threshold: float = 0.5) -> bytes:
    return json.dumps({"thresholds": [threshold], "identity": who, "format": 1}).encode()


def run(root: Path, written: Outputs) -> outputs.Run:
    """A run that has made these outputs, each in a folder of its own where the path has one."""
    stages = {}
    for stage, files in written.items():
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        stages[stage] = {"outs": [{"path": path} for path in files]}
    with (root / "dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    return outputs.run_in(root)


def compared(tmp_path: Path, before: Outputs, after: Outputs) -> outputs.Comparison:
    return outputs.compare(run(tmp_path / "before", before), run(tmp_path / "after", after))


def test_identity_and_durations_are_not_compared(tmp_path: Path) -> None:
    """Another revision, code and speed, and so other sums of files: still the same model."""
    found = compared(
        tmp_path,
        {
            "train_cnn@a": {
                MODEL: model(identity("1", "a")),
                "data/models/a/cnn/SHA256SUMS": b"1",
                TRAIN: b'{"train_seconds": 1.0}',
            }
        },
        {
            "train_cnn@a": {
                MODEL: model(identity("2", "b", clean=False)),
                "data/models/a/cnn/SHA256SUMS": b"2",
                TRAIN: b'{"train_seconds": 2.0}',
            }
        },
    )
    assert found.all_same
    assert found.same == ["train_cnn"]


def test_a_threshold_is_compared(tmp_path: Path) -> None:
    """What stands beside the identity in model.json counts, and the place is named."""
    found = compared(
        tmp_path,
        {"train_cnn@a": {MODEL: model(identity("1", "a"))}},
        {"train_cnn@a": {MODEL: model(identity("2", "b"), threshold=0.6)}},
    )
    assert found.same == []
    (line,) = found.different["train_cnn"]
    assert line.startswith(f"{MODEL}: thresholds.0: ")
    assert "0.5" in line and "0.6" in line


@pytest.mark.parametrize(
    ("name", "before", "after", "place"),
    [
        ("a.csv", b"epoch,loss\n1,0.5\n2,0.25\n", b"epoch,loss\n1,0.5\n2,0.24\n", "line 3: 2,0.24"),
        ("a.csv", b"epoch,loss\n1,0.5\n", b"epoch,loss\n1,0.5\n2,0.4\n", "line 3"),
        ("a.csv", b"a\n", b"a\r\n", "line 1"),
        ("a.json", b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}', "*"),
        ("a.json", b'{"a": {"b": 1}}', b'{"a": {"b": 1.0}}', "a.b"),
        ("a.json", b'{"a": [1, 2]}', b'{"a": [1, 2, 3]}', "a: "),
        ("a.json", b'{"a": 1}', b'{"a": 1, "c": 2}', "c"),
        ("a.json", b'{"a": 1}', b'{"a":1}', "same content"),
        ("a.json", b"no JSON", b"none", "bytes"),
        ("a.md", b"# A\n\nAUC 0.9\n", b"# A\n\nAUC 0.8\n", "line 3"),
        ("a.npy", b"no array", b"none", "bytes"),
        ("a.bin", b"1", b"2", "bytes"),
    ],
)
def test_everything_else_is_compared_exactly(
    tmp_path: Path, name: str, before: bytes, after: bytes, place: str
) -> None:
    """One number, one key's place, one more row: each is found, and where it is."""
    found = compared(tmp_path, {"split@a": {name: before}}, {"split@a": {name: after}})
    (line,) = found.different["split"]
    assert line.startswith(f"{name}: ") and place in line


def test_arrays_tell_how_far_they_differ(tmp_path: Path) -> None:
    """Whether a difference is of rounding or of sense is what one wants to know first."""
    arrays = np.zeros((2, 3), np.float32), np.array([[0, 0, 0], [0, 0.25, 0]], np.float32)
    for name, array in zip(("before", "after"), arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    where = outputs.difference(tmp_path / "before.npy", tmp_path / "after.npy")
    assert where is not None and "0.25" in where


def test_files_and_outputs_that_come_and_go_are_found(tmp_path: Path) -> None:
    """A folder with a file more, a stage with an output more, a stage more."""
    (tmp_path / "after/data/models/a/cnn").mkdir(parents=True)
    (tmp_path / "after/data/models/a/cnn/more.txt").write_text("more")
    before = {"train_cnn@a": {"data/models/a/cnn/one.txt": b"1"}, "old@a": {"old.txt": b"1"}}
    after = {
        "train_cnn@a": {"data/models/a/cnn/one.txt": b"1"},
        "train_cnn@b": {"two.txt": b"1"},
        "split": {"split.txt": b"1"},
    }
    runs = run(tmp_path / "before", before), run(tmp_path / "after", after)
    for either in runs:
        either.outs["train_cnn@a"] = {"data/models/a/cnn": None}
    found = outputs.compare(*runs)
    assert found.different == {"train_cnn": ["data/models/a/cnn/more.txt: added"]}
    assert (found.removed, found.added) == (["old@a"], ["train_cnn@b", "split"])
    runs[0].outs["train_cnn@a"]["gone.txt"] = None
    assert any("gone.txt" in line for line in outputs.compare(*runs).different["train_cnn"])


REPORT_TEXT = """# Report

[Made by](#what-made-these-numbers) revision `{who}` (clean) from data `dddddddddddd`.

| | cnn |
| --- | ---: |
| training time (s) | {seconds} |
| AUC | {auc} |

| [a: cnn](#a-cnn) | trained | `{who}` | clean | `dddddddddddd` | `{who}` | A |

| [cnn](#cnn) | `dddddddddddd` | `eeeeeeeeeeee` | `{who}00000` |

- Environment A: cpu, 2 cores; python {who}

This report and its cards were written by revision `{who}` (clean), code `{who}`.
"""


def reports(who: str, seconds: float, auc: float) -> Outputs:
    """A report as Markdown and as the page that is made of it."""
    text = REPORT_TEXT.format(who=who, seconds=seconds, auc=auc)
    html = MarkdownIt("commonmark").enable("table").render(text)
    return {"report": {REPORT: text.encode(), "reports/report.html": html.encode()}}


def test_what_reports_say_of_identity_and_durations_is_passed_over(tmp_path: Path) -> None:
    """In Markdown and in the page."""
    before, after = reports("1111111", 12.5, 0.9), reports("2222222", 13.5, 0.9)
    assert compared(tmp_path, before, after).different == {}


def test_a_number_in_a_report_is_not_passed_over(tmp_path: Path) -> None:
    """What a report is for is compared."""
    before, after = reports("1111111", 12.5, 0.9), reports("2222222", 13.5, 0.8)
    different = compared(tmp_path, before, after).different
    assert len(different["report"]) == 2
    assert all("0.8" in line for line in different["report"])


def test_many_differences_are_told_in_few_lines(tmp_path: Path) -> None:
    """One mistake in a module at the bottom changes hundreds of files."""
    before, after = (
        {f"stage{number}@a": {f"{number}/{i}.txt": text for i in range(9)} for number in range(9)}
        for text in (b"1", b"2")
    )
    told = same.in_words(compared(tmp_path, before, after), "main")
    assert len(told.splitlines()) < same.SHOWN + 5
    assert all(f"stage{number}" in told for number in range(9))


def test_parameters_may_move_but_not_change() -> None:
    """small.yaml overrides some, so that the small run is the same with any value of theirs."""
    was = {"train.cnn.a": {"epochs": 25, "optimizer": {"rate": 0.1}}, "datasets.a.module": "ucr"}
    moved = {"models.a.cnn": {"optimizer": {"rate": 0.1}, "epochs": 25}, "data.a.module": "ucr"}
    changed = {"models.a.cnn": {"optimizer": {"rate": 0.1}, "epochs": 30}, "data.a.module": "ucr"}
    assert same.leaves([was]) == same.leaves([moved])
    assert same.leaves([was]) != same.leaves([changed])


def test_a_base_that_does_not_exist_is_named() -> None:
    """A branch that was not fetched."""
    with pytest.raises(SystemExit, match=r"error: .*no-such-branch"):
        cli.main(["same", "no-such-branch"])
