"""Versions, the gate before production, and what it takes to go back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from beatline.bundle import model_info
from beatline.common.errors import UserError
from beatline.comparing.comparison import CANNOT_TELL, FAILED
from beatline.tracking import names, promotion, registered, runs
from beatline.tracking.client import MlflowClient
from beatline.tracking.registered import Version
from tests.paths import ROOT
from tests.tracking import project
from tests.tracking.project import COMPARE

KEY = "ptbxl/cnn"
NAME = registered.registered_name(KEY)


def register(
    client: MlflowClient, root: Path, seed: int, skill: float
) -> tuple[Version, promotion.Judgement]:
    revision = project.make(root / str(seed), KEY, seed=seed, skill=skill)
    state = runs.state_of(revision, *KEY.split("/"))
    version, is_new, judgement = promotion.register(client, state, COMPARE)
    assert is_new
    return version, judgement


def test_an_interrupted_registration_goes_on(
    mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was made and then called nothing would never be judged."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow, "set_registered_model_alias", interrupted)
        register(mlflow, tmp_path, 1, 1.0)
    version, _ = register(mlflow, tmp_path, 1, 1.0)
    assert (version.number, version.aliases) == (1, (names.CHALLENGER,))
    assert names.GATE in registered.resolve(mlflow, KEY, 1).tags


def test_a_worse_model_does_not_become_the_champion(mlflow: MlflowClient, tmp_path: Path) -> None:
    """The whole way: register, promote, a worse and a better challenger, and back again."""
    first, judgement = register(mlflow, tmp_path, 1, 1.0)
    assert (first.number, first.aliases) == (1, (names.CHALLENGER,))
    assert judgement.sentence == promotion.FIRST and registered.aliased(mlflow, KEY) is None
    promotion.promote(mlflow, KEY, names.CHALLENGER, COMPARE)
    assert registered.resolve(mlflow, KEY).aliases == (names.CHAMPION,)

    worse, judgement = register(mlflow, tmp_path, 2, 0.2)
    assert judgement.outcome == FAILED and "auc" in judgement.sentence
    assert worse.aliases == (names.CHALLENGER,)
    _, judgement = promotion.promote(mlflow, KEY, names.CHALLENGER, COMPARE)
    assert judgement.outcome == FAILED and not judgement.may_move
    assert registered.resolve(mlflow, KEY).number == 1

    better, judgement = register(mlflow, tmp_path, 3, 2.0)
    assert better.tags.get(names.GATE) is None  # of before it was judged
    assert registered.resolve(mlflow, KEY, 3).tags[names.GATE] == judgement.sentence
    promotion.promote(mlflow, KEY, names.CHALLENGER, COMPARE)
    assert registered.resolve(mlflow, KEY).number == 3

    assert promotion.rollback(mlflow, KEY).number == 1
    assert registered.resolve(mlflow, KEY).number == 1
    moves = registered.moves(mlflow, KEY)
    assert [(move.kind, move.before, move.after) for move in moves] == [
        ("promotion", None, 1),
        ("promotion", 1, 3),
        ("rollback", 3, 1),
    ]
    assert all(move.by and move.at and move.verdict for move in moves)
    assert "auc" in moves[1].verdict


def test_the_same_state_is_no_second_version(mlflow: MlflowClient, tmp_path: Path) -> None:
    version, _ = register(mlflow, tmp_path, 1, 1.0)
    state = runs.state_of(project.Stored(tmp_path / "1"), *KEY.split("/"))
    again, is_new, _ = promotion.register(mlflow, state, COMPARE)
    assert (again.number, is_new) == (version.number, False)


def test_an_unknown_model_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    """And not sent to a stage that DVC does not know."""
    revision = project.make(tmp_path / "1", KEY)
    with pytest.raises(UserError, match=f"(?s)cmm.*{KEY}"):
        runs.state_of(revision, KEY.split("/")[0], "cmm")


def test_what_is_registered_again_is_the_challenger(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """After another was registered, and after a rollback: what was judged last is what is promoted. The
    champion is no challenger of itself."""

    def again(seed: int) -> tuple[int, tuple[str, ...], bool]:
        state = runs.state_of(project.Stored(tmp_path / str(seed)), *KEY.split("/"))
        version, is_new, _ = promotion.register(sqlite_mlflow, state, COMPARE)
        return version.number, version.aliases, is_new

    for seed, skill in ((1, 0.2), (2, 2.0), (3, 1.0)):
        register(sqlite_mlflow, tmp_path, seed, skill)
    assert again(2) == (2, (names.CHALLENGER,), False)
    promotion.promote(sqlite_mlflow, KEY, 1, COMPARE)
    promotion.promote(sqlite_mlflow, KEY, names.CHALLENGER, COMPARE)
    assert registered.resolve(sqlite_mlflow, KEY).number == 2
    assert again(2) == (2, (names.CHAMPION,), False)
    promotion.rollback(sqlite_mlflow, KEY)
    assert again(2) == (2, (names.CHALLENGER,), False)


def test_without_its_bundle_a_state_is_no_version(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """One that DVC's cache has lost: the sentence says how to bring it back, and no run is left without
    one; a run that was mirrored like that is named."""
    revision = project.make(tmp_path / "1", KEY)
    shutil.rmtree(tmp_path / "1/data/models" / KEY)
    state = runs.state_of(revision, *KEY.split("/"))
    with pytest.raises(UserError, match=f"{KEY}.*dvc pull"):
        promotion.register(sqlite_mlflow, state, COMPARE)
    lines: list[str] = []
    assert runs.mirror(sqlite_mlflow, [revision], lines.append).added == [KEY]
    assert "bundle" in lines[0]
    with pytest.raises(UserError, match=r"run .*delete"):
        promotion.register(sqlite_mlflow, state, COMPARE)
    assert registered.known(sqlite_mlflow) == []


def test_a_loss_that_cannot_be_told_is_settled_by_params_yaml(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """Where the test records cannot show it, `compare.cannot_tell` decides, and nobody else."""
    register(sqlite_mlflow, tmp_path, 1, 1.0)
    promotion.promote(sqlite_mlflow, KEY, 1, COMPARE)
    _, judgement = register(sqlite_mlflow, tmp_path, 2, 0.97)
    assert judgement.outcome == CANNOT_TELL and not judgement.may_move
    lenient = COMPARE.model_copy(update={"cannot_tell": "pass"})
    _, judgement = promotion.promote(sqlite_mlflow, KEY, 2, lenient)
    assert judgement.outcome == CANNOT_TELL and judgement.may_move
    assert registered.resolve(sqlite_mlflow, KEY).number == 2


def test_other_test_records_are_no_pair(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """A model that was tested on fewer records is not compared as if it were on the same."""
    register(sqlite_mlflow, tmp_path, 1, 1.0)
    promotion.promote(sqlite_mlflow, KEY, 1, COMPARE)
    before, project.RECORDS = project.RECORDS, 60
    try:
        _, judgement = register(sqlite_mlflow, tmp_path, 2, 2.0)
    finally:
        project.RECORDS = before
    assert judgement.outcome == CANNOT_TELL and "test records" in judgement.sentence


def test_going_back_twice_goes_back_two_steps(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """A rollback is no promotion: the next one goes further back, and does not return."""
    for number, skill in enumerate((1.0, 2.0, 3.0), 1):
        register(sqlite_mlflow, tmp_path, number, skill)
        promotion.promote(sqlite_mlflow, KEY, number, COMPARE)
    assert [promotion.rollback(sqlite_mlflow, KEY).number for _ in range(2)] == [2, 1]
    with pytest.raises(UserError, match="--version"):
        promotion.rollback(sqlite_mlflow, KEY)


def test_a_move_by_hand_is_not_undone_by_guess(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    for number, skill in enumerate((1.0, 2.0, 3.0), 1):
        register(sqlite_mlflow, tmp_path, number, skill)
    for number in (1, 2):
        promotion.promote(sqlite_mlflow, KEY, number, COMPARE)
    sqlite_mlflow.set_registered_model_alias(NAME, names.CHAMPION, "3")
    with pytest.raises(UserError, match="--version N"):
        promotion.rollback(sqlite_mlflow, KEY)
    assert registered.resolve(sqlite_mlflow, KEY).number == 3


def kill_promotion(client: MlflowClient, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promote a version as far as the record of it."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    before = registered.resolve(client, KEY).number
    with monkeypatch.context() as interrupted:
        interrupted.setattr(MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promotion.promote(client, KEY, number, COMPARE)
    assert registered.resolve(client, KEY).number == before


def test_who_goes_back_after_an_interrupted_move_gets_where_it_was(
    sqlite_mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the champion before the one that is: what was recorded last has not happened."""
    for number, skill in enumerate((1.0, 2.0, 3.0), 1):
        register(sqlite_mlflow, tmp_path, number, skill)
    for number in (1, 2):
        promotion.promote(sqlite_mlflow, KEY, number, COMPARE)
    kill_promotion(sqlite_mlflow, 3, monkeypatch)
    assert promotion.rollback(sqlite_mlflow, KEY).number == 1
    moves = [(move.before, move.after) for move in registered.moves(sqlite_mlflow, KEY)]
    assert moves == [(None, 1), (1, 2), (2, 1)]


def test_a_move_that_was_interrupted_leaves_no_false_record(
    sqlite_mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion is never one that nobody recorded, and a record of what did not happen is replaced."""
    for number, skill in enumerate((1.0, 2.0, 3.0), 1):
        register(sqlite_mlflow, tmp_path, number, skill)
    promotion.promote(sqlite_mlflow, KEY, 1, COMPARE)
    kill_promotion(sqlite_mlflow, 2, monkeypatch)
    promotion.promote(sqlite_mlflow, KEY, 3, COMPARE)
    moves = [(move.before, move.after) for move in registered.moves(sqlite_mlflow, KEY)]
    assert moves == [(None, 1), (1, 3)]
    assert promotion.rollback(sqlite_mlflow, KEY).number == 1


def artifacts_of(client: MlflowClient, version: Version) -> Path:
    """The folder in which the artifacts of a version's run lie."""
    return Path(unquote(urlsplit(client.get_run(version.run_id).info.artifact_uri).path))


@pytest.mark.parametrize(
    "path", ["model.onnx", "model.json", "weights.safetensors", "history.csv", "SHA256SUMS"]
)
def test_a_damaged_artifact_is_not_downloaded(
    path: str, sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """The registry names the damage, and what was there before stays."""
    version, _ = register(sqlite_mlflow, tmp_path, 1, 1.0)
    held = registered.download(sqlite_mlflow, version, tmp_path / "held" / KEY)
    before = {each.name: each.read_bytes() for each in held.iterdir()}
    assert model_info.read_model_info(held)["weights_sha256"] == version.weights
    damaged = artifacts_of(sqlite_mlflow, version) / "model/artifacts/bundle" / path
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UserError) as caught:
        registered.download(sqlite_mlflow, version, held)
    assert version.label in str(caught.value) and path in str(caught.value)
    assert {each.name: each.read_bytes() for each in held.iterdir()} == before


def test_a_bundle_in_place_of_another_is_not_downloaded(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """Sound in itself, but not what was registered: sums beside the files could have been made anew."""
    versions = [register(sqlite_mlflow, tmp_path, seed, 1.0)[0] for seed in (1, 2)]
    first, second = (
        artifacts_of(sqlite_mlflow, version) / "model/artifacts/bundle" for version in versions
    )
    shutil.rmtree(first)
    shutil.copytree(second, first)
    with pytest.raises(UserError, match="version 1"):
        registered.download(sqlite_mlflow, versions[0], tmp_path / "held")
    assert not (tmp_path / "held").exists()


@pytest.mark.parametrize("lost", ["model", ""])
def test_lost_artifacts_are_told(lost: str, sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    version, _ = register(sqlite_mlflow, tmp_path, 1, 1.0)
    shutil.rmtree(artifacts_of(sqlite_mlflow, version) / lost)
    with pytest.raises(UserError) as caught:
        registered.download(sqlite_mlflow, version, tmp_path / "held")
    assert version.label in str(caught.value) and version.run_id in str(caught.value)


def test_nobody_is_promoted_on_damaged_evidence(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    champion, _ = register(sqlite_mlflow, tmp_path, 1, 1.0)
    promotion.promote(sqlite_mlflow, KEY, 1, COMPARE)
    register(sqlite_mlflow, tmp_path, 2, 2.0)
    for path in (names.METRICS, names.LINEAGE, "predictions/predictions.csv"):
        file = artifacts_of(sqlite_mlflow, champion) / path
        before = file.read_bytes()
        for content in (None, b"", b"{}", b"[1]", b"record,group\n1,2\n"):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(UserError, match="version 1"):
                promotion.promote(sqlite_mlflow, KEY, 2, COMPARE)
        file.write_bytes(before)
    assert registered.resolve(sqlite_mlflow, KEY).number == 1
    promotion.promote(sqlite_mlflow, KEY, 2, COMPARE)
    assert registered.resolve(sqlite_mlflow, KEY).number == 2


@pytest.mark.parametrize("word", ["ptbxl", "ptbxl/", "/cnn", "a/b/c", "ptbxl/c:nn", ""])
def test_a_name_that_is_none_is_refused(word: str, sqlite_mlflow: MlflowClient) -> None:
    with pytest.raises(UserError, match="ptbxl/cnn"):
        registered.resolve(sqlite_mlflow, word)


def test_a_name_that_is_not_there_is_told_with_those_that_are(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    register(sqlite_mlflow, tmp_path, 1, 1.0)
    with pytest.raises(UserError, match="did you mean ptbxl/cnn"):
        registered.resolve(sqlite_mlflow, "ptbxl/cn")
    for which in ("7", 7, "winner", names.CHAMPION):
        with pytest.raises(UserError) as caught:
            registered.resolve(sqlite_mlflow, KEY, which)
        assert str(which) in str(caught.value) and names.CHALLENGER in str(caught.value)


def test_a_version_that_somebody_made_by_hand_is_refused(
    sqlite_mlflow: MlflowClient, tmp_path: Path
) -> None:
    """It has no sums by which a bundle could be told from another."""
    register(sqlite_mlflow, tmp_path, 1, 1.0)
    sqlite_mlflow.create_model_version(NAME, str(tmp_path), await_creation_for=0)
    sqlite_mlflow.set_registered_model_alias(NAME, names.CHAMPION, "2")
    with pytest.raises(UserError, match="version 2"):
        registered.aliased(sqlite_mlflow, KEY)


def test_a_stranger_finds_what_it_is(sqlite_mlflow: MlflowClient, tmp_path: Path) -> None:
    """Its page in MLflow has the card, the metrics with intervals and that the data are simulated."""
    root = tmp_path / "1"
    cards = root / "reports/cards/ptbxl_models.md"
    cards.parent.mkdir(parents=True)
    long = "\n\n".join(f"Paragraph {number} of many." for number in range(1000))
    cards.write_text(
        f"# Card\n\n## What it is for\n\nTo try.\n\n## lstm\n\nother\n\n## cnn\n\n{long}"
    )
    version, _ = register(sqlite_mlflow, tmp_path, 1, 1.0)
    present = sqlite_mlflow.get_model_version(NAME, str(version.number))
    assert present.description and "To try." in present.description
    assert "Paragraph 1 " in present.description and "other" not in present.description
    assert len(present.description) <= registered.LONGEST and names.CARD in present.description
    auc = json.loads((root / f"reports/metrics/{KEY}.json").read_text())["metrics"][0]
    assert present.tags["beatline.metric.auc"].startswith(f"{auc['value']:.4g} [")
    assert version.simulated and present.tags[names.SIMULATED] == "true"


def test_the_service_needs_neither_torch_nor_dvc() -> None:
    """It takes champions from the registry where only its own requirements are installed."""
    modules = "{'torch', 'dvc', 'matplotlib'} & {*sys.modules}"
    loaded = f"import sys, beatline.tracking.registered; print(*{modules})"
    command = [sys.executable, "-c", loaded]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
