"""What `beatline repro` mends in DVC changes no byte of dvc.lock."""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.fs import localfs
from dvc.utils.serialize import load_yaml, modify_yaml
from hypothesis import given
from hypothesis import strategies as st

from beatline.commands.patched_dvc import FastLock

# What one reader of YAML takes for a text and another for something else.
DOUBTFUL = ("on", "No", "1e3", "1e-05", "0o17", "012", "1:30", "null", "~", "", "=", "2020-01-01")
DOUBTFUL += ("1_000", ".inf", "# x", "- x", "a: b", "a\nb", "two  spaces ", "é", "x" * 200)
# As people write them: of others, such as 1.2345678901234567e+16, DVC's own changes the last digits.
FLOATS = st.integers(-(10**6), 10**6).map(lambda number: number / 1000)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.sampled_from(DOUBTFUL)
VALUES = st.recursive(
    SCALARS | st.text("abc0123456789.e-+_ \"'#:,é", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
STAGES = st.lists(st.tuples(st.sampled_from(["a", "b@c"]), VALUES), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    yield made
    shutil.rmtree(made)


def entry(value: Any) -> OrderedDict[str, Any]:
    """A stage's, in the kind of mapping that DVC makes."""
    return OrderedDict(cmd="python", params=OrderedDict({"params.yaml": {"key": value}}))


@given(stages=STAGES)
def test_the_lock_is_the_one_that_dvc_writes(folder: Path, stages: list[tuple[str, Any]]) -> None:
    """To the byte at the end, and in its values after every stage."""
    paths = [folder / side / "dvc.lock" for side in ("own", "fast")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    lock = FastLock()
    for name, value in stages:
        for modify, path in zip((modify_yaml, lock.modify_yaml), paths, strict=True):
            with modify(str(path), fs=localfs) as content:
                content.setdefault("schema", "2.0")
                content.setdefault("stages", {}).update({name: entry(value)})
        own, fast = (load_yaml(path) for path in paths)
        assert repr(own) == repr(fast)  # as 1 and True and 1.0 are equal
    lock.finish()
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_files_keep_their_comments(tmp_path: Path) -> None:
    """dvc.yaml is written by people too."""
    path = tmp_path / "dvc.yaml"
    path.write_text("# stages\nstages: {}\n")
    lock = FastLock()
    with lock.modify_yaml(str(path), fs=localfs) as content:
        content["vars"] = []
    assert path.read_text().startswith("# stages\n")
    assert not lock.changed
