"""`beatline repro`: what an interruption leaves of DVC's files is mended, and nothing else is touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from beatline.commands import repro
from beatline.common.errors import UserError

LOCK = Path("dvc.lock")
KEPT = Path(".dvc.lock.kept")
RWLOCK = Path(".dvc/tmp/rwlock")


def entry(number: int) -> dict[str, object]:
    file = {"path": f"data/{number}.csv", "hash": "md5", "md5": f"{number:032x}", "size": number}
    return {"cmd": f"python -m stages.split {number}", "deps": [file], "outs": [file]}


SOUND = yaml.safe_dump({"schema": "2.0", "stages": {f"s{n}": entry(n) for n in range(3)}})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository in which dvc.lock is committed."""
    monkeypatch.chdir(tmp_path)
    LOCK.write_text(SOUND)
    for command in (
        "init --quiet",
        "add dvc.lock",
        "-c user.name=x -c user.email=x@example.invalid commit --quiet -m x",
    ):
        subprocess.run(["git", *command.split()], check=True)


def test_without_a_commit_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """A run in a repository without one ends as well as any."""
    (tmp_path / ".git").rename(tmp_path / "git")
    subprocess.run(["git", "init", "--quiet"], check=True)
    repro._tell_changes()


def test_a_sound_lock_is_kept_beside() -> None:
    """And stays as it is, to the byte."""
    newer = SOUND.replace("size: 1", "size: 7")
    LOCK.write_text(newer)
    repro.mend()
    assert LOCK.read_text() == KEPT.read_text() == newer


@pytest.mark.parametrize("damage", ["", "schema: '2.0'\nstages:\n  a: [", "\0" * 99, "x", "[]"])
def test_a_damaged_lock_is_restored(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the copy, which may be newer than what is committed."""
    newer = SOUND.replace("size: 1", "size: 7")
    LOCK.write_text(newer)
    repro.mend()
    LOCK.write_text(damage)
    repro.mend()
    assert LOCK.read_text() == newer
    assert "dvc.lock was damaged" in capsys.readouterr().out


def test_without_a_copy_it_is_that_of_git() -> None:
    """And a damaged copy is none."""
    for copy in (None, "", "stages: ["):
        if copy is not None:
            KEPT.write_text(copy)
        LOCK.write_text("")
        repro.mend()
        assert LOCK.read_text() == SOUND


def test_without_git_it_begins_anew(tmp_path: Path) -> None:
    """As in a container, where dvc.lock is a link into a volume and there is no repository."""
    subprocess.run(["rm", "-rf", ".git", "dvc.lock"], check=True)
    (tmp_path / "volume").mkdir()
    LOCK.symlink_to("volume/dvc.lock")
    (tmp_path / "volume/dvc.lock").write_text("")
    repro.mend()
    assert LOCK.is_symlink() and repro.is_sound(LOCK.read_text())
    assert yaml.safe_load(LOCK.read_text()) == {"schema": "2.0"}


def test_whatever_is_cut_off_is_noticed_or_can_be_read() -> None:
    """DVC reads what is left of a file that was cut, or it is restored."""
    LOCK.write_text(SOUND)
    repro.mend()
    for length in range(0, len(SOUND), 17):
        LOCK.write_text(SOUND[:length])
        repro.mend()
        assert repro.is_sound(LOCK.read_text())


def test_marks_of_a_merge_conflict_are_no_damage() -> None:
    """Whoever merges decides: nothing is restored over it."""
    conflict = SOUND.replace("stages:", "<<<<<<< HEAD\nstages:\n=======\n>>>>>>> branch\n", 1)
    LOCK.write_text(conflict)
    with pytest.raises(UserError, match=r"dvc\.lock holds the marks of a merge conflict"):
        repro.mend()
    assert LOCK.read_text() == conflict


def test_an_unreadable_list_of_readers_and_writers_is_removed() -> None:
    """A readable one stays: it may name a process that is running."""
    repro.mend()
    for content, stays in (("", False), ('{"write": ', False), ('{"write": {}}', True)):
        RWLOCK.write_text(content)
        repro.mend()
        assert RWLOCK.exists() == stays


LEFT = ("data/x/.old.partial/signals.npy", "data/.x.csv.partial", "reports/a/b/.c.json.partial")
NOT_LEFT = ("data/downloads/x.zip.partial", "data/downloads/x.zip.partial.json", "data/x/a.npy")


def half_written() -> None:
    for name in (*LEFT, *NOT_LEFT):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def test_what_a_killed_run_was_writing_is_removed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its name, so that a full disk does not stay full; a broken download goes on."""
    half_written()
    repro.mend()
    assert not any(Path(name).exists() for name in LEFT)
    assert not Path("data/x/.old.partial").exists()
    assert all(Path(name).read_bytes() == b"x" for name in NOT_LEFT)
    assert "data/x/.old.partial" in capsys.readouterr().out
    repro.mend()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("how", ["write", "read"])
def test_what_a_running_stage_writes_is_left(how: str) -> None:
    """DVC's lock is free while a stage runs, and its list names who runs; a dead process runs nothing."""
    half_written()
    with subprocess.Popen(["sleep", "60"]) as process:
        who = {"pid": process.pid, "cmd": "dvc repro"}
        RWLOCK.parent.mkdir(parents=True, exist_ok=True)
        RWLOCK.write_text(json.dumps({how: {"/data/x": who if how == "write" else [who]}}))
        repro.mend()
        assert all(Path(name).exists() for name in LEFT)
        process.kill()
    repro.mend()
    assert not any(Path(name).exists() for name in LEFT)


def test_nothing_is_touched_while_dvc_is_at_work() -> None:
    """Another process may be about to write what looks damaged."""
    repro.mend()
    LOCK.write_text("")
    RWLOCK.write_text("")
    script = (
        "import time\nfrom dvc.lock import make_lock\n"
        "with make_lock('.dvc/tmp/lock', tmp_dir='.dvc/tmp'):\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        repro.mend()
        assert LOCK.read_text() == RWLOCK.read_text() == ""
        holder.kill()
    repro.mend()
    assert LOCK.read_text() == SOUND and not RWLOCK.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_stage_outlives_a_dvc_that_was_killed(number: signal.Signals) -> None:
    """It would race the one that the next run starts."""
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").write_text("[core]\n    analytics = false\n")
    stages = {"wait": {"cmd": "echo $$ > started; sleep 60; echo > out", "outs": ["out"]}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    LOCK.unlink()
    script = "import sys\nfrom beatline.commands import repro\nsys.exit(repro.dvc_repro([]))"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        deadline = time.monotonic() + 60
        while not (Path("started").exists() and Path("started").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (dvc,) = psutil.Process(process.pid).children()
        stage = psutil.Process(int(Path("started").read_text()))
        dvc.send_signal(number)
        assert process.wait(30) == 128 + number
    assert not stage.is_running() and not Path("out").exists()
