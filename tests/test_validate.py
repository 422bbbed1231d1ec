"""`python -m beatline.validate`: every block of params.yaml, before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from beatline import params, validate
from beatline.errors import UserError, reporting_mistakes

COMMITTED = params.load(Path(__file__).parents[1] / "params.yaml")


def test_the_committed_parameters_are_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every block of the file in the repository fits its schema."""
    monkeypatch.chdir(Path(__file__).parents[1])
    validate.main()
    runs = sum(len(names) for names in COMMITTED["train"].values())
    expected = f"params.yaml is valid: {len(COMMITTED['datasets'])} data sets, {runs} training runs"
    assert capsys.readouterr().out.strip() == expected


def leaves(value: Any, key: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [leaf for name, item in value.items() for leaf in leaves(item, f"{key}.{name}")]


def test_no_leaf_is_left_unchecked() -> None:
    """A value of a wrong type, under any key of the file, is found and its key named."""
    for leaf in leaves(COMMITTED):
        content = copy.deepcopy(COMMITTED)
        *outer, last = leaf[1:].split(".")
        if last == "module":
            continue  # refused by params.load already
        block = content
        for name in outer:
            block = block[name]
        block[last] = {"wrong": 1}
        with pytest.raises(UserError) as error:
            validate.validate(content)
        assert leaf[1:] in str(error.value)


def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with exit status 1 and a line that names the key."""
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("resamples: 1000", "resamples: 10"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_, reporting_mistakes():
        validate.main()
    assert str(exit_.value).startswith("error: params.yaml: evaluate.resamples: ")
    assert not capsys.readouterr().out
