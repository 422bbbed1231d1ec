"""`beatline run-queue`, interrupted; all else of it is tried in :mod:`tests.pipeline.test_queue`."""

from __future__ import annotations

from typing import Any, cast

import pytest

from beatline.commands.experiment_queue import ExperimentQueue
from beatline.commands.run_queue import _Watch


class Interrupted:
    """A queue at whose workers somebody presses Ctrl-C."""

    def set_awaited(self, *_: Any) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_says_who_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The workers are processes of their own, which a person who interrupts the waiting may not know."""
    watch = _Watch(cast(Any, None), cast(ExperimentQueue, Interrupted()), [], 1)
    watch.open = {"0" * 40: "exp-1"}
    with pytest.raises(KeyboardInterrupt):
        watch.wait()
    assert "dvc queue stop" in capsys.readouterr().out
