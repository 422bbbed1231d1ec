"""Mistakes that a user can mend, told in one sentence.

Every stage is called by :func:`run_stage`, so a wrong parameter or a broken file ends in
``error: <what is wrong, where, and what to do>`` and exit status 1 instead of a traceback. An error
that is ours (a bug) still shows its traceback.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_FULL = ("the disk is full", "writing", "free some space")
DISK_ERRORS = {  # what is wrong, at what, and the cure
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: ("the file system is read-only", "writing", "mount it for writing"),
    errno.EIO: ("the disk fails", "using", "see the system's log, mend or replace the disk"),
}

MOST_NAMES = 30  # in a sentence
LONGEST_WORDING = 300  # characters of what another library says


class UserError(Exception):
    """Bad input. The message names the file or key, what is wrong, and the cure."""


@contextmanager
def reporting_mistakes() -> Iterator[None]:
    """Turn a :class:`UserError`, a disk that is full, read-only or broken, or a file that may not be read
    or written into one sentence on stderr and exit status 1. Ctrl-C ends the process without a word, and
    so does a reader who has enough, such as `head`."""
    try:
        yield
        sys.stdout.flush()  # what is left fails here, and not when nobody can say so
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except KeyboardInterrupt:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)  # so that a shell or make that called this ends too
    except UserError as error:
        sys.exit(f"error: {error}")
    except PermissionError as error:
        sys.exit(f"error: {error.filename} may not be read or written: correct its permissions")
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        reason, doing, cure = DISK_ERRORS[error.errno]
        where = f" while {doing} {error.filename}" if error.filename else ""
        sys.exit(f"error: {reason}{where}: {cure} and run the command again")


def run_stage(main: Callable[..., None]) -> None:
    """Call a stage's `main` with the arguments of the command line, inside :func:`reporting_mistakes`."""
    with reporting_mistakes():
        signature, given = inspect.signature(main), sys.argv[1:]
        try:
            signature.bind(*given)
        except TypeError:
            spec = sys.modules["__main__"].__spec__
            takes = " ".join(f"<{name}>" for name in signature.parameters) or "no arguments"
            raise UserError(
                f"`python -m {spec.name if spec else sys.argv[0]}` takes {takes}, not "
                f"{' '.join(given) or 'none'}: `dvc repro --dry` prints how each stage is called"
            ) from None
        main(*given)


@contextmanager
def concerning(key: str) -> Iterator[None]:
    """Begin the message of a UserError with `key`, the block of params.yaml that is at work: what is
    called inside is the same for every data set, and names parameters as they are called within it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is nearest to `word`, in brackets; "" if none is near."""
    names = {name.casefold(): name for name in map(str, known)}
    close = difflib.get_close_matches(word.casefold(), names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def names_there_are(word: str, known: Iterable[str]) -> str:
    """Return what a sentence about the unknown name `word` ends with: the nearest, and all there are."""
    names = list(map(str, known))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = ", ".join(names[:MOST_NAMES]) or "none"
    return f"{did_you_mean(word, names)}; known: {listed}{more}"


def warn(message: str) -> None:
    """Print a warning that stays readable in a CI log, in place among a stage's other lines."""
    print(f"warning: {message}", flush=True)


def shown(text: str, length: int = 60) -> str:
    """Return somebody's words as they can stand in one line of a message."""
    cut = text if len(text) <= length else text[:length] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def wording(error: BaseException) -> str:
    """Return an exception's message in one line."""
    return shown(" ".join(str(error).split()).rstrip("."), LONGEST_WORDING)


def listed(names: list[str], most: int = 12) -> str:
    """Names for a message, the first of many only."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name, 30) for name in names[:most]) + more
