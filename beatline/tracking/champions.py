"""Versions of the registry as copies on this machine's disk, and the champions kept up to date.

A service asks for its champions in one thread of its parent process; its workers look at files alone.
While the registry is away, the copies stay as they are.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from beatline.common import sums
from beatline.common.errors import UserError, warn
from beatline.common.files import replacing
from beatline.tracking import copies, registered
from beatline.tracking.client import MlflowClient, connect
from beatline.tracking.names import CHALLENGER, CHAMPION, PREDICTIONS
from beatline.tracking.registered import Version

SECONDS_TO_FORGET = 60  # after which a version that could not be copied is tried again
log = logging.getLogger("beatline.serving")


def copy(
    client: MlflowClient, root: Path, version: Version, alias: str, *, check: bool = True
) -> Path:
    """Return the folder of a copy of a version in the project in `root`: the one that is there, or a new
    one, which takes the place of another version's when it is whole, and of a damaged one if `check`.

    Raises UserError if the version is damaged or the registry fails, OSError if it cannot be written.
    """
    place = root / copies.place_of(version.key, alias)
    named = {"version": str(version.number), "alias": alias}
    there = copies.read_version(place) == named and copies.seal_of(place) == version.seal
    if there and not (check and _is_damaged(place)):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / copies.FOLDER, prefix=".") as name:
        new = Path(name) / "new"
        registered.download(client, version, new)
        measured = registered.fetch(
            client, version.run_id, PREDICTIONS, Path(name) / "measured", version.label
        )
        sums.check(measured)
        measured.rename(new / PREDICTIONS)
        (new / copies.VERSION).write_text(json.dumps({**named, "seal": version.seal}))
        sums.seal(new)
        if place.exists():
            place.rename(Path(name) / "old")
        new.rename(place)
    return place


def _is_damaged(place: Path) -> bool:
    try:
        sums.check(place)
    except (UserError, OSError) as error:
        # Without the cure of what stages have made.
        log.warning("%s: the copy is made anew", str(error).partition(": run")[0])
        return True
    return False


def fetch(name: str) -> Path:
    """Return the folder of a copy of the version that `<data set>/<model>@<alias>` names, of the champion
    if there is no alias. While the registry is away, the last copy is taken, with a warning.

    Raises UserError if there is no such version, and if there is no copy and the registry is away.
    """
    key, _, alias = name.partition("@")
    alias = alias or CHAMPION
    copied = Path(copies.place_of(key, alias))
    try:
        client = connect()
    except UserError as error:
        if (version := copies.read_version(copied)) is None:
            raise
        warn(f"{error}; version {version['version']} of {key} is taken from {copied}")
        return copied
    return copy(client, Path(), registered.resolve(client, key, alias), alias)


def _remove(place: Path) -> None:
    """Remove a copy, at one moment for those who look."""
    if place.exists():
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as name:
            place.rename(Path(name) / "old")


class Champions:
    """Copies of the champions of the models `wanted` (``<data set>/<model>``) in the project in `root`,
    and of their `challengers` if these are wanted too, looked at every so many `seconds`."""

    def __init__(
        self, root: Path, wanted: Sequence[str], seconds: float, *, challengers: bool = False
    ) -> None:
        self._challengers = challengers
        self._root = root
        self._wanted = wanted
        self._seconds = seconds
        self._asked: float | None = None
        self._reason: str | None = None
        self._failed: dict[tuple[str, str], tuple[int, float]] = {}
        self._foreign: dict[tuple[str, str], str | None] = {}  # why an alias names none of ours
        self._checked: dict[tuple[str, str], str] = {}  # the seals of copies that were whole
        self._without: set[str] = set()  # models with a copy and no champion, which was said
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)

    def start(self) -> None:
        """Copy what there is, or go on with what was copied before if the registry is away; then keep
        looking.

        Raises UserError if there is no champion and no copy of one.
        """
        reason = self.look()
        if not any((self._root / copies.place_of(key)).exists() for key in self._wanted):
            raise UserError(
                reason
                or "the registry has no champion of any model in params.yaml: run `beatline register` "
                "and `beatline promote`"
            )
        self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended, or soon if it waits for the registry."""
        self._stop.set()
        self._thread.join(timeout=1)

    def look(self) -> str | None:
        """Copy each champion that is another than its copy. Return why the registry could not be asked,
        if it could not."""
        try:
            client = connect()
            present = [
                (key, alias, self._present(client, key, alias))
                for key in self._wanted
                for alias in ((CHAMPION, CHALLENGER) if self._challengers else (CHAMPION,))
            ]
        except UserError as error:
            self._note(str(error))
            return str(error)
        self._asked = time.time()
        self._note(None)
        for key, alias, version in present:
            if isinstance(version, Version):
                self._copy(client, version, alias)
            elif alias == CHALLENGER:
                _remove(self._root / copies.place_of(key, CHALLENGER))
            if alias == CHAMPION:
                self._note_without(key, version is not None)
        return None

    def _present(
        self, client: MlflowClient, key: str, alias: str
    ) -> Version | registered.Foreign | None:
        """The version of an alias. One that is none of ours is told once, and stops no other."""
        version, reason = None, None
        try:
            version = registered.aliased(client, key, alias)
        except registered.Foreign as error:
            reason = error
            if self._foreign.get((key, alias)) != str(error):
                log.warning("the %s of %s cannot be taken: %s", alias, key, error)
        self._foreign[key, alias] = reason and str(reason)
        return version or reason

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except (
                Exception
            ):  # whatever it is, the copies are there, and the next round may do better
                log.exception("the registry of models could not be looked at")

    def _copy(self, client: MlflowClient, version: Version, alias: str) -> None:
        failed, when = self._failed.get((version.key, alias), (0, 0.0))
        if failed == version.number and time.monotonic() - when < SECONDS_TO_FORGET:
            return
        check = self._checked.get((version.key, alias)) != version.seal  # once in a process
        try:
            copy(client, self._root, version, alias, check=check)
            self._checked[version.key, alias] = version.seal
        except (UserError, OSError) as error:
            self._failed[version.key, alias] = version.number, time.monotonic()
            log.warning("%s could not be copied: %s", version.label, error)

    def _note_without(self, key: str, has_champion: bool) -> None:
        """Tell the log when the registry, which may be another one than before, has no champion of a
        model that there is a copy of."""
        version = None if has_champion else copies.read_version(self._root / copies.place_of(key))
        if version and key not in self._without:
            log.warning(
                "the registry has no champion of %s: the copy of version %s, which was one, goes on; "
                "delete %s to end that",
                key,
                version["version"],
                copies.place_of(key),
            )
        (self._without.add if version else self._without.discard)(key)

    def _note(self, reason: str | None) -> None:
        """Tell workers, and the log when it has changed, whether the registry answers."""
        if reason and not self._reason:
            log.warning("copies of registered models go on without their registry: %s", reason)
        elif self._reason and not reason:
            log.warning("the registry of models answers again")
        self._reason = reason
        path = self._root / copies.FOLDER / copies.STATE
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps({"asked": self._asked, "reason": reason}))
