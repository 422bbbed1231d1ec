"""The origin of the numbers stands with every table, also for models without a recorded revision."""

from __future__ import annotations

import pytest

from beatline.lineage import code
from beatline.reporting import identity
from beatline.reporting.document import Document
from beatline.reporting.identity import own_identity
from tests.reporting import project
from tests.reporting.reading import rows, section, table

CLOSING = "What made these numbers"


def _row(document: Document, model: str, doing: str) -> dict[str, str] | None:
    """Return the rows of the closing table, whose second column has no name."""
    found = [row for row in rows(section(document, CLOSING), "model") if row["model"] == model]
    return next((row for row in found if row[""] == doing), None)


def test_the_closing_has_a_row_per_model(document: Document) -> None:
    trained = _row(document, "hearts: cnn", "trained")
    assert trained == {
        "model": "hearts: cnn",
        "": "trained",
        "revision": "`0123456`",
        "changes": "clean",
        "data": "`dddddddddddd`",
        "code": "`cccccccccccc`",
        "environment": "A",
    }
    text = section(document, CLOSING)
    assert (
        r"- Environment A: cpu (x86), Linux, A\|B 1, 2 cores, 1 thread; python 3, torch 2" in text
    )
    assert "- Environment B: cpu (x86); python 3, torch 2" in text
    assert "beatline describe" in text


def test_an_evaluation_has_a_row_only_if_something_else_made_it(document: Document) -> None:
    assert _row(document, "hearts: cnn", "evaluated") is None
    other = _row(document, "machines: embedding", "evaluated")
    assert other
    assert (other["revision"], other["changes"]) == ("`fedcba9`", "changes 1")
    assert other["data"] == "`bbbbbbbbbbbb`"
    assert "- Changes 1: uncommitted changes to `beatline/a_b.py`" in section(document, CLOSING)


def test_old_identities_are_said_to_be_not_recorded(document: Document) -> None:
    old = _row(document, "digits: cnn", "trained")
    assert old
    assert (old["revision"], old["environment"]) == ("not recorded", "B")
    assert old["data"] == "`dddddddddddd`"
    evaluated = _row(document, "digits: cnn", "evaluated")
    assert evaluated
    assert evaluated["revision"] == "not recorded"
    assert "a revision that was not recorded" in section(document, "digits: cnn")


def test_outside_of_git_there_is_no_revision(document: Document) -> None:
    row = _row(document, r"rows: logistic\_regression", "trained")
    assert row
    assert row["revision"] == "no revision"
    assert "code of no known revision" in section(document, r"rows: logistic\_regression")


def test_every_table_of_metrics_names_what_made_it(document: Document) -> None:
    """The summary's, those of comparison and those of the models."""
    line = "[Made by](#what-made-these-numbers) "
    assert line in section(document, "Summary of results")
    made = "revision `0123456` (clean) from data `dddddddddddd`."
    for model in ("cnn", "autoencoder"):
        assert line + made in section(document, f"hearts: {model}")
    compared = table(section(document, "hearts: comparison of models"), "")
    assert compared["trained by revision"]["cnn"] == "`0123456`"
    assert compared["learned from data"]["cnn"] == "`dddddddddddd`"
    assert section(document, "digits: comparison of models").count("not recorded") == 2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (project.CLEAN, "revision `0123456` (clean)"),
        (project.CHANGED, "revision `fedcba9` (with uncommitted changes)"),
        (project.NO_GIT, "code of no known revision"),
        (project.OLD, "a revision that was not recorded"),
    ],
)
def test_what_made_a_number_in_words(made: dict, words: str) -> None:
    assert identity.made_by(made) == words


def test_many_changes_are_not_all_listed() -> None:
    listed = identity.listed_paths([f"beatline/{number}.py" for number in range(40)])
    assert listed.endswith("`beatline/15.py` and 24 more")


def test_the_report_tells_what_wrote_it(document: Document) -> None:
    text = section(document, CLOSING)
    assert "written by revision `0123456` (clean), code `eeeeeeeeeeee`, with python 3" in text
    own = own_identity()
    assert own["git"] == code.git_identity()
    assert {"python", "matplotlib", "markdown-it-py"} <= own["environment"].keys()
