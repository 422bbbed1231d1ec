"""The cards: complete for each kind of data set, honest, and with nothing in them that nobody knows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from beatline.common.files import read_csv
from beatline.datasets import UNKNOWN_GROUPS
from beatline.reporting.data_card import data_card
from beatline.reporting.document import Document, anchor
from beatline.reporting.page import page
from beatline.reporting.report import compose
from beatline.reporting.results import read
from beatline.reporting.settings import Report
from tests.paths import ROOT
from tests.reporting import project
from tests.reporting.reading import rows, section, table

DATA = (
    "What it is",
    "Labels",
    "Splits",
    "Who or what was recorded",
    "Normalization",
    "Limits",
    "What it is for",
    "Identity",
)
MODELS = (
    "Details",
    "What it is for",
    "Factors",
    "Metrics",
    "Evaluation and training data",
    "Results",
    "Seeds",
    "Limits and caveats",
    "Lineage",
)
every_dataset = pytest.mark.parametrize("name", list(project.DATASETS))


def _cards(document: Document, name: str) -> tuple[str, str]:
    return document.cards[f"cards/{name}_data.md"], document.cards[f"cards/{name}_models.md"]


@every_dataset
def test_cards_are_complete(document: Document, name: str) -> None:
    """Every section is there and says something, and each model has its own."""
    data, models = _cards(document, name)
    trained = [model for model, on in project.CONTENT["train"].items() if name in on]
    escaped = [model.replace("_", r"\_") for model in trained]
    for card, headings in ((data, DATA), (models, (*MODELS, *escaped))):
        for heading in headings:
            assert len(section(card, heading).strip()) > 40, heading
        assert "None" not in card
        assert not re.search(r"\bnan\b", card)
    assert list(table(section(models, "Details"), "model")) == escaped
    for model in escaped:
        assert "[Made by](../report.md#what-made-these-numbers)" in section(models, model)
        assert "95 % intervals" in section(models, model)


@every_dataset
def test_the_first_line_says_whether_it_is_simulated(document: Document, name: str) -> None:
    """And so does the paragraph below; no card of real data has the word at all."""
    simulated = project.DATASETS[name]["simulated"]
    for card, kind in zip(_cards(document, name), ("Data", "Model"), strict=True):
        first, _, second = card.splitlines()[:3]
        reality = "simulated" if simulated else "real"
        assert first == f"# {kind} card: {name} ({reality} data)"
        assert second.startswith("**Everything here is simulated.**") == simulated
        assert simulated or "simulat" not in card


def test_no_group_is_told_of_where_the_data_tell_none(document: Document) -> None:
    for name in project.DATASETS:
        data, models = _cards(document, name)
        known = name == "hearts"
        assert ("female" in data) == ("female" in models) == known
        assert ("tells no sex and no age" in data) == (name not in ("hearts", "machines"))
        assert (": by sex and age" in models) == known
    assert "told apart by machine" in section(_cards(document, "machines")[1], "Factors")


def test_records_of_nobody_known_are_told_where_patients_are_promised(root: Path) -> None:
    """That no patient is in two splits holds of those who are named."""
    results = read(project.CONTENT, "hearts", root)
    said = []
    for counts in ({}, {UNKNOWN_GROUPS: 1234}):
        info = results.dataset_info | {"counts": results.dataset_info["counts"] | counts}
        card = data_card(replace(results, dataset_info=info), project.CONTENT, root)
        said.append(" ".join(section(card, "Splits").split()))
    assert "in the same one (seed" in said[0]
    assert "in the same one, as far as they name one: 1,234 do not" in said[1]
    assert "one of its own (seed" in said[1]


def test_people_are_counted_as_they_are(document: Document, root: Path) -> None:
    """Against the tables themselves; who is unknown is counted, and in no group."""
    found = {
        (row["records of"], row["group"]): row
        for row in rows(
            section(_cards(document, "hearts")[0], "Who or what was recorded"), "records of"
        )
    }
    for split in ("train", "validation", "test"):
        people = read_csv(root / f"data/normalized/hearts/{split}/records.csv")
        men, unknown = (people["sex"] == 0).sum(), people["age"].isna().sum()
        assert found["sex", "male"][split].startswith(f"{men} (")
        assert found["sex", "female"][split].startswith(f"{len(people) - men} (")
        assert found["age", "not known"][split].startswith(f"{unknown} (")
        old = ((people["age"] >= 40) & (people["age"] < 60)).sum()
        assert found["age", "40 to 59"][split].startswith(f"{old} (")
        assert float(found["age", "median, in years"][split]) == np.nanmedian(people["age"])
    assert ("sex", "not known") not in found


@every_dataset
def test_hashes_are_those_of_the_files(document: Document, root: Path, name: str) -> None:
    found = table(section(_cards(document, name)[0], "Identity"), "file")
    assert len(found) == 6
    for path, row in found.items():
        content = (root / path.strip("`")).read_bytes()
        assert row["SHA-256"] == f"`{hashlib.sha256(content).hexdigest()}`"


def test_every_link_of_report_and_cards_leads_somewhere(document: Document, root: Path) -> None:
    """To a heading that is there, of a file that is written; no heading of a card is there twice."""
    files = {"report.md": document.markdown, **document.cards}
    places = {}
    for path, text in files.items():
        headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        places[path] = {anchor(heading) for heading in headings}
        assert len(places[path]) == len(headings)
    links = 0
    for path, text in files.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            to, _, fragment = target.partition("#")
            parts = PurePosixPath(path).parent / to if to else PurePosixPath(path)
            if to.startswith("../") and path == "report.md":  # predictions, documentation
                file = PurePosixPath("reports") / to
                assert any((folder / file).is_file() for folder in (root, ROOT)), target
                continue
            parts = _without_parents(parts)
            assert parts in files or parts in document.figures, (path, target)
            assert not fragment or fragment in places[parts], (path, target)
            links += 1
    assert links > 150


def _without_parents(path: PurePosixPath) -> str:
    kept: list[str] = []
    for part in path.parts:
        kept = kept[:-1] if part == ".." else [*kept, part]
    return "/".join(kept)


def test_limits_come_from_the_counts(document: Document) -> None:
    """Few records of a class, and unequal classes, are said where they are so, in numbers."""
    hearts, _ = _cards(document, "hearts")
    limits = section(hearts, "Limits")
    assert r"(NORM 12 and M\|I\_x 8)" in limits
    assert "not equally frequent" not in limits  # 21 of one and 14 of the other are not far apart
    assert "One seed only: autoencoder." in section(
        _cards(document, "hearts")[1], "Limits and caveats"
    )
    assert "No medical device" in section(hearts, "What it is for")


def test_calibration_is_shown_of_probabilities_alone(document: Document) -> None:
    models = _cards(document, "beats")[1]
    assert "](../figures/beats/cnn_curves.png)" in section(models, "cnn: calibration")
    text = section(models, "autoencoder: calibration")
    assert "not probabilities" in text
    assert "![" not in text


def test_lineage_tells_stages_weights_and_what_is_not_recorded(document: Document) -> None:
    text = section(_cards(document, "hearts")[1], "Lineage")
    assert table(text, "stage")["`split@hearts`"]["MD5"] == f"`{'5' * 32}`"
    evaluated = table(text, "model | test data")["cnn"]
    assert (evaluated["test data"], evaluated["weights"]) == ("`bbbbbbbbbbbb`", "`aaaaaaaaaaaa`")
    old = section(_cards(document, "digits")[1], "Lineage")
    assert table(old, "model | test data")["cnn"]["weights"] == "not recorded"
    assert "| stage |" not in old


@pytest.mark.usefixtures("without_pictures")
def test_a_model_names_what_it_has_started_from(document: Document) -> None:
    """And that it was learned from simulated recordings, which its own data do not tell."""
    _, models = _cards(document, "hearts")
    sentence = re.search(r"started from .*?\.\n", section(models, "cnn"), re.S)
    assert sentence and {"others/cnn", "simulated", "0123456789ab"} <= {
        *re.findall(r"[\w/]+", sentence[0])
    }
    assert "0123456789ab" not in section(models, "autoencoder")


def test_a_data_set_without_models_has_a_data_card_alone(root: Path) -> None:
    content = project.only("beats", "digits", models=["lstm"])
    found = compose(content, Report(mistakes=0), root, project.REPORT)
    assert set(found.cards) == {
        "cards/beats_data.md",
        "cards/digits_data.md",
        "cards/digits_models.md",
    }
    assert "cards/beats_models.md" not in found.markdown
    assert page(found).count('<details id="cards/') == 3
