"""Words on data sets: those that are true of the source at hand, and none on what nobody knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from beatline.common import params
from beatline.common.errors import UserError
from beatline.datasets import cards
from beatline.datasets.cards import Words, words_of
from tests.paths import ROOT

PUBLISHED = ("package", "archive", "official", "physionet", "mimii")


def _words(module: str, source: str, *, simulated: bool = False, **download: Any) -> Words:
    """The words for a source of one's own, or for a description in the module's package, by its name."""
    if source in PUBLISHED:
        source = f"beatline/datasets/{module}/{source}.yaml"
    block = {
        "module": module,
        "download": {"source": source, **download},
        "aggregate_labels": {"target": "anomaly", "normal_class": "1"},
    }
    description = {"simulated": simulated, "source": source, "counts": {}}
    return words_of("mine", {"mine": block}, description)


def _all(words: Words) -> str:
    return " ".join(
        value if isinstance(value, str) else " ".join(value) for value in vars(words).values()
    )


@pytest.mark.parametrize("module", ["ptbxl", "ucr", "mnist", "table", "sound"])
def test_of_files_of_ones_own_nothing_is_claimed(module: str) -> None:
    """No licence, no labels of others, nothing simulated."""
    words = _words(module, "/somewhere/else", name="ECG5000", label="y")
    assert "nobody has described" in words.licence
    assert "`datasets.mine.download.source`" in words.collected
    text = _all(words)
    for claim in ("CC BY", "simulat", "Schiller", "chf07", "NIST", "MIMII"):
        assert claim not in text


def test_of_a_module_that_nobody_described_that_is_said() -> None:
    words = _words("new", "package")
    assert "`beatline/datasets/new/card.yaml`" in words.licence
    assert "nobody has described" in words.use


def test_what_is_true_of_one_data_set_is_not_said_of_its_neighbour() -> None:
    """ECG5000 is of one person; other series of the archive are not."""
    assert "**one person**" in _all(_words("ucr", "package", name="ECG5000"))
    other = _all(_words("ucr", "package", name="FordA"))
    assert "**one person**" not in other
    assert "Congestive" not in other


@pytest.mark.parametrize(
    ("module", "source", "claim"),
    [
        ("ptbxl", "physionet", "CC BY 4.0, as PhysioNet"),
        ("sound", "mimii", "CC BY-SA 4.0"),
        ("mnist", "official", "CC BY-SA 3.0"),
    ],
)
def test_published_data_have_their_licence_and_are_not_called_simulated(
    module: str, source: str, claim: str
) -> None:
    words = _words(module, source)
    assert claim in words.licence
    assert "simulat" not in _all(words)


def test_only_the_packaged_part_of_the_digits_is_said_to_be_one() -> None:
    assert any("part of the digits" in limit for limit in _words("mnist", "package").limits)
    assert not any("part of the digits" in limit for limit in _words("mnist", "official").limits)


@pytest.mark.parametrize("simulated", [True, False])
def test_a_derived_table_has_the_words_of_what_it_is_derived_from(simulated: bool) -> None:
    source = "beatline/simulators/ecg" if simulated else "beatline/datasets/ptbxl/physionet.yaml"
    datasets = {
        "hearts": {"module": "ptbxl", "download": {"source": source}},
        "rows": {
            "module": "table",
            "download": {
                "source": "data/features/hearts",
                "label": "diagnosis",
            },
        },
    }
    description = {
        "simulated": simulated,
        "source": source,
        "counts": {"rows_of_other_labels": 1234},
    }
    words = words_of("rows", datasets, description)
    origin = words_of("hearts", datasets, description)
    assert words.licence == origin.licence
    assert set(origin.limits) < set(words.limits)
    assert any(limit.startswith("1,234 rows with other labels") for limit in words.limits)
    assert ("simulator" in words.collected) == simulated
    assert "recordings of hearts" in words.collected


def test_every_committed_data_set_is_described() -> None:
    """The committed parameters leave nothing to "nobody"."""
    datasets = params.load(ROOT / "params.yaml")["datasets"]
    for name, block in datasets.items():
        source = block["download"]["source"]
        if (folder := Path(source)).parent == Path("data/features"):
            source = datasets[folder.name]["download"]["source"]
        simulated = source.startswith("beatline/simulators")
        description = {"simulated": simulated, "source": source, "counts": {}}
        text = _all(words_of(name, datasets, description))
        assert "nobody has described" not in text, name
        assert ("simulator" in text) == simulated, name


CARD = """
mine:
  when: published == "package"
  licence: None.
  collected: "{{ download.name | text }}"
  labelled: By hand.
  use: For a test.
  misuse: [All else.]
  factors: None.
  limits: ["{{ counts.rows | default('') }}"]
theirs:
  when: published == "package" and download.name == "b_c"
  licence: Theirs.
"""


def _card(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """A data set module `new` with this card.yaml."""
    (folder / "new").mkdir()
    (folder / "new/card.yaml").write_text(content)
    monkeypatch.setattr(cards, "FOLDER", folder)


def test_a_new_module_is_described_by_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are filled in as Markdown, later variants override, an empty item is none at all."""
    _card(tmp_path, monkeypatch, CARD)
    words = _words("new", "package", name="b_c")
    assert (words.licence, words.collected) == ("Theirs.", r"b\_c")
    assert (words.misuse, words.limits) == (["All else."], [])
    assert _words("new", "package", name="x").licence == "None."
    assert "nobody has described" in _words("new", "elsewhere", name="x").licence


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("  use: For a test.\n", "", "mine.use: missing"),
        ("use: For", "usage: x\n  use: For", "mine.usage: unknown parameter (did you mean use?)"),
        ("download.name |", "download.nam |", "'dict object' has no attribute 'nam'"),
        ("misuse: [", "misuse: {", "is not valid YAML"),
        ("when: ", "then: ", "mine.when: missing"),
        ("when: published", "when: = published", "mine: "),
    ],
)
def test_a_wrong_card_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, named: str
) -> None:
    """The file, and what is wrong in it."""
    _card(tmp_path, monkeypatch, CARD.replace(right, wrong, 1))
    with pytest.raises(UserError) as error:
        _words("new", "package", name="x")
    assert "new/card.yaml" in str(error.value)
    assert named in str(error.value)


@pytest.mark.parametrize("simulated", [False, True])
def test_labels_of_ptbxl_are_those_of_the_task(simulated: bool) -> None:
    """The name of the task is said where it is learned, and of no other."""
    tasks = ("superclasses", "subclasses", "form", "rhythm")
    source = "beatline/simulators/ecg" if simulated else "beatline/datasets/ptbxl/physionet.yaml"
    for task in tasks:
        block = {
            "module": "ptbxl",
            "download": {"source": source},
            "aggregate_labels": {"task": task.removesuffix("es")},
        }
        about = {"simulated": simulated, "source": source, "counts": {}}
        said = words_of("mine", {"mine": block}, about).labelled
        assert [other for other in tasks if re.search(rf"\b{other}\b", said)] == [task]
