"""Croissant metadata: valid by MLCommons' own library, which loads the tables of the stages by it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest

from beatline.common.files import TEXTS, read_csv
from beatline.reporting.document import Document
from beatline.reporting.report import compose
from beatline.reporting.results import SPLITS
from beatline.reporting.settings import Report
from tests.reporting import project

# Not among the requirements: it brings stubs of pandas that say other things than the code is checked by.
LIBRARY = (
    "mlcroissant==1.1.1",
    "absl-py==2.5.1",
    "etils==1.15.0",
    "jsonpath-rw==1.4.0",
    "ply==3.11",
    "rdflib==7.6.0",
)
LOAD = """
import json, sys
import mlcroissant
for path in sys.argv[1:]:
    dataset = mlcroissant.Dataset(jsonld=path)
    issues = dataset.metadata.ctx.issues
    rows = [
        {key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()}
        for row in dataset.records("records")
    ]
    names = [row["splits/name"] for row in dataset.records("splits")]
    files = {file.id: file.sha256 for file in dataset.metadata.file_objects}
    about = {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings)}
    print(json.dumps({**about, "rows": rows, "splits": names, "files": files}))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library, from the package index."""
    folder = tmp_path_factory.mktemp("library")
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(folder)]
    install = [sys.executable, "-m", "pip", "install", *options, *LIBRARY]
    run = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if run.returncode:
        pytest.skip(f"mlcroissant cannot be installed: {run.stderr[-300:]}")
    return folder


@pytest.fixture(scope="session")
def loaded(
    document: Document, root: Path, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the library makes of each file, by data set."""
    copy = tmp_path_factory.mktemp("loaded")
    (copy / "data").symlink_to(root / "data")
    (copy / "reports/cards").mkdir(parents=True)
    paths = {name: copy / f"reports/cards/{name}.jsonld" for name in project.DATASETS}
    for name, path in paths.items():
        path.write_text(document.metadata[f"cards/{name}.jsonld"], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *map(str, paths.values())],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(library), "HOME": str(library)},
    )
    assert run.returncode == 0, run.stderr
    return dict(zip(paths, map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", project.DATASETS)
def test_it_is_valid(loaded: dict[str, Any], name: str) -> None:
    """No error; all that is missed are a version and a date, which nobody states of every data set."""
    assert not loaded[name]["errors"]
    missed = [warning.split('"')[1].rpartition("/")[2] for warning in loaded[name]["warnings"]]
    assert missed == ["datePublished", "version"]
    assert loaded[name]["splits"] == list(SPLITS)


@pytest.mark.parametrize("name", project.DATASETS)
def test_labels_and_splits_are_loaded_as_the_stages_wrote_them(
    loaded: dict[str, Any], root: Path, name: str
) -> None:
    """Each record with its labels and its split, joined by name: all columns, in their types, whatever
    characters are in the name of a class."""
    labels = read_csv(root / f"data/labels/{name}/labels.csv")
    splits = read_csv(root / f"data/splits/{name}.csv").set_index("record")["split"]
    expected = labels.assign(split=splits.loc[labels["record"].to_list()].to_list())
    if "machine_id" in expected:  # the library takes a text of digits for a number
        expected["machine_id"] = expected["machine_id"].astype(int).astype(str)
    found: pd.DataFrame = pd.DataFrame(loaded[name]["rows"]).rename(columns=_column)
    found = found.astype({column: str for column in TEXTS if column in found})
    assert len(found) == sum(project.SIZES.values())
    pd.testing.assert_frame_equal(
        found.loc[:, list(expected)].sort_values("record", ignore_index=True),
        expected.sort_values("record", ignore_index=True),
        check_dtype=False,
    )


def _column(key: str) -> str:
    return unquote(key.removeprefix("records/"))


@pytest.mark.parametrize("name", project.DATASETS)
def test_files_are_those_that_are_named(document: Document, root: Path, name: str) -> None:
    """Their sums and sizes are right, and their addresses lead to them from the folder of the cards."""
    metadata = json.loads(document.metadata[f"cards/{name}.jsonld"])
    files = {file["@id"]: file for file in metadata["distribution"]}
    assert set(files) == {"labels.csv", "split.csv", "recordings.zip"}
    for file in files.values():
        path = root / "reports/cards" / file["contentUrl"]
        assert file["sha256"] == hashlib.sha256(path.resolve().read_bytes()).hexdigest()
        assert file["contentSize"] == f"{path.resolve().stat().st_size} B"


@pytest.mark.usefixtures("without_pictures")
def test_the_words_are_those_of_the_card(document: Document, root: Path) -> None:
    """Licence and origin are told as in the data card, and nothing tells when it was written."""
    again = compose(project.only("beats"), Report(mistakes=0), root, project.REPORT)
    assert again.metadata["cards/beats.jsonld"] == document.metadata["cards/beats.jsonld"]
    metadata, card = json.loads(document.metadata["cards/hearts.jsonld"]), document.cards
    for key in ("license", "rai:dataCollection", "rai:dataAnnotationProtocol"):
        assert metadata[key] in card["cards/hearts_data.md"].replace("\n", " ")
    assert metadata["citeAs"] == project.HEARTS["citation"]
    assert not metadata["isLiveDataset"]
