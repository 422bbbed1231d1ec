"""The real Feast in its own environment: filled, asked by time, filled again; and its mistakes."""

from __future__ import annotations

import fcntl
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from ruamel.yaml import YAML

from beatline import cli
from beatline.common import params
from beatline.common.errors import UserError
from beatline.datasets.table.point_in_time import features_at
from beatline.feature_store import definitions, store
from beatline.features import sound
from tests.feature_store import tables
from tests.paths import ROOT

pytestmark = tables.needs_feast
# What is online after each step: filled, pushed, an older row pushed, filled again, filled with another
# definition.
STEPS = """
import sys
from pathlib import Path
import pandas as pd
import actions, definitions

(view,) = (view for view in definitions.views if view.name == "machine_sound")
names = [field.name for field in view.features]
found = []

def look():
    rows = [{"machine_id": f"id_0{number}"} for number in range(3)]
    store = FeatureStore(repo_path=".")
    found.append(store.get_online_features([f"machine_sound:{name}" for name in names], rows).to_dict())

def push(date, value):
    row = {"machine_id": ["id_00"], "event_timestamp": [pd.Timestamp(date, tz="UTC")]}
    store.push("machine_sound_push", pd.DataFrame(row | {name: [value] for name in names}))
    look()

look()
push("2025-01-01", 1.0)
push("2020-01-01", 2.0)
actions.materialize()
look()
path = Path("definitions.json")
content = json.loads(path.read_text())
for table in content["tables"]:
    table["definition"] = "another"
path.write_text(json.dumps(content))
del sys.modules["definitions"]
actions.materialize()
look()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store, in SQLite, is filled by the command."""
    made = tables.make(tmp_path_factory.mktemp("project"))
    content = params.read_yaml(ROOT / params.PATH)
    content["serve"]["max_age_hours"] = tables.MAX_AGE / 3600
    with (made / params.PATH).open("w") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(store.ONLINE_STORE, raising=False)
        patch.chdir(made)
        assert cli.main(["features"]) == 0
    return made


@pytest.fixture(autouse=True)
def in_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(store.ONLINE_STORE, raising=False)


def test_history_is_that_of_the_pipeline(root: Path, tmp_path: Path) -> None:
    """For each machine and time the newest features from before, not older than their time to live: what
    the data set machine_features is made of, to the last bit. Where there are none, Feast leaves the row
    out."""
    own = tables.parquet(root, "machine_sound").drop(columns="record")
    hours = pd.to_timedelta([-1, 0, 5, 24, 30, 71, 72, 107, 108, 109, 5000], unit="h")
    times = pd.DataFrame({"event_timestamp": (tables.BEGIN + hours).as_unit("us")})
    asked = times.merge(own[["machine_id"]].drop_duplicates(), how="cross")
    asked.to_parquet(tmp_path / "asked.parquet")
    store.history("machine_sound", tmp_path / "asked.parquet", tmp_path / "joined.parquet", root)
    joined = features_at(asked, own, timedelta(seconds=tables.MAX_AGE))
    expected = pd.concat([asked, joined], axis=1)
    keys = ["machine_id", "event_timestamp"]
    found = pd.read_parquet(tmp_path / "joined.parquet").astype(expected.dtypes.to_dict())
    known = expected.dropna()
    pd.testing.assert_frame_equal(
        found.reindex(columns=expected.columns).sort_values(keys, ignore_index=True),
        known.sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    assert 0 < len(known) < len(expected)


def test_newest_rows_stay(root: Path) -> None:
    """Each machine's newest row is online. What it sends later stays, also when the store is filled
    again, and what is older is not taken. Measured in another way, all rows are replaced."""
    own = tables.parquet(root, "machine_sound").set_index("machine_id")
    last = own.groupby(level=0).last()[list(sound.FEATURES)]
    sent = last.copy()
    sent.loc["id_00"] = 1.0
    expected = [last, sent, sent, sent, last]
    for online, table in zip(tables.in_feast(root, STEPS), expected, strict=True):
        assert {name: online[name] for name in table} == {
            name: table[name].tolist() for name in table
        }


def test_a_database_that_is_away(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told where it was looked for, without the password. What the service reads is not there, as
    nothing was filled."""
    monkeypatch.setenv(store.ONLINE_STORE, "postgresql://me:secret@127.0.0.1:1/features")
    project = tables.make(tmp_path)
    with pytest.raises(UserError, match=f"127.0.0.1:1/features.*{store.ONLINE_STORE}") as raised:
        tables.fill(project)
    assert "secret" not in str(raised.value)
    assert not (project / store.APPLIED).exists()
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit, match="make features"):
        cli.main(["feature-server"])


def test_a_store_in_use_outlives_an_attempt_to_fill_another(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away leaves the store as it was; the server starts for the one that was filled,
    and for no other."""
    before, _ = store.server(root, "127.0.0.1", 6566)
    monkeypatch.setenv(store.ONLINE_STORE, "postgresql://me:secret@127.0.0.1:1/features")
    with pytest.raises(UserError, match=store.ONLINE_STORE):
        tables.fill(root)
    with pytest.raises(UserError, match=f"{store.ONLINE_STORE}.*make features"):
        store.server(root, "127.0.0.1", 6566)
    monkeypatch.delenv(store.ONLINE_STORE)
    assert store.server(root, "127.0.0.1", 6566)[0] == before


def test_a_database_of_another_version(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of the same names with other columns are told, not written to."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE beatline_machine_sound (entity_key bytea, other int)")
    monkeypatch.setenv(store.ONLINE_STORE, database)
    with pytest.raises(UserError, match="another version"):
        tables.fill(tables.make(tmp_path))


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "/tmp/online.db", "postgresql", "redis://me:secret@x"]
)
def test_a_store_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What is no PostgreSQL is refused before Feast starts, with an example, and no password is told."""
    monkeypatch.setenv(store.ONLINE_STORE, url)
    with pytest.raises(UserError, match=f"{store.ONLINE_STORE} .*postgresql://") as raised:
        tables.fill(tables.make(tmp_path))
    assert "secret" not in str(raised.value)


def test_a_damaged_registry(tmp_path: Path) -> None:
    """Feast's own file that cannot be read is told with what mends it."""
    project = tables.make(tmp_path)
    (project / definitions.FOLDER).mkdir(exist_ok=True)
    (project / definitions.FOLDER / "registry.db").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="make features"):
        tables.fill(project)


def test_two_at_once(root: Path) -> None:
    """Two that fill one store would write over each other: the second is told to wait."""
    with (root / definitions.FOLDER / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another"):
            tables.fill(root)


def test_without_feast(root: Path, tmp_path: Path) -> None:
    """Who has not installed it is told how."""
    project = tables.make(tmp_path)
    (project / ".venv-feast").unlink()
    with pytest.raises(UserError, match="make features"):
        tables.fill(project)
