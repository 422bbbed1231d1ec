"""Which block `compare` two revisions are compared by."""

from __future__ import annotations

from typing import Any, cast

import pytest

from beatline.commands.compare import parameters_of
from beatline.common import params
from beatline.common.errors import UserError
from beatline.comparing.revisions import Revision
from tests.paths import ROOT

CURRENT = params.load(ROOT / "params.yaml")["compare"]


class Stored:
    """A revision with this block, or of before there was one."""

    label = "main"

    def __init__(self, **changed: Any) -> None:
        self.params = {"compare": CURRENT | changed} if changed else {}


def resamples(before: Stored, after: Stored) -> int:
    return parameters_of(cast(Revision, before), cast(Revision, after)).resamples


def test_the_base_decides_and_history_stays_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change cannot loosen what it is judged by; revisions that are older than the block are compared
    by a newer one, not refused."""
    monkeypatch.chdir(ROOT)
    assert resamples(Stored(resamples=300), Stored(resamples=400)) == 300
    assert resamples(Stored(), Stored(resamples=400)) == 400
    assert resamples(Stored(), Stored()) == CURRENT["resamples"]


def test_a_wrong_block_is_named_with_its_revision() -> None:
    """It is not passed over for one that is right."""
    with pytest.raises(UserError, match=r"compare of main.*cannot_tell"):
        resamples(Stored(cannot_tell="maybe"), Stored(resamples=400))


def test_a_base_of_before_the_key_lets_pass() -> None:
    """A base without `cannot_tell` goes on as it did."""
    base = Stored(resamples=300)
    base.params = {"compare": {k: v for k, v in CURRENT.items() if k != "cannot_tell"}}
    parameters = parameters_of(cast(Revision, base), cast(Revision, Stored(cannot_tell="fail")))
    assert parameters.cannot_tell == "pass"
