"""The code that runs: its Git revision, and the sum of the modules that are loaded.

Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from beatline.common.errors import warn

# What the revision is compared in. Data and reports are made from it, and dvc.lock says how; what
# tracks or serves a model changes none of its numbers.
COMMITTED = ("beatline", "stages", "params.yaml", "dvc.yaml", "requirements.txt")
COMMITTED += tuple(
    f":(exclude)beatline/{room}" for room in ("feature_store", "monitoring", "serving", "tracking")
)


def git_identity() -> dict[str, Any]:
    """`revision`: the last commit of the history that is checked out which changed one of COMMITTED,
    so that committing what a run has made leaves it as it is; `changed`: the files of COMMITTED that
    differ from it or that it does not hold; `clean`: whether there are none.

    Without Git, outside of a repository or in one that does not hold this project, the revision is
    None and nothing is clean. So it is, with a warning, in a shallow clone whose history ends before
    that commit: Git then names the last one that it has.
    """
    revision = _git("rev-list", "-1", "HEAD", "--", *COMMITTED)
    options = ("--name-only", "--no-renames", "--relative", "-z")
    differing = _git("diff", *options, "HEAD", "--", *COMMITTED)
    unknown = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *COMMITTED)
    if revision and revision.strip() in ends_of_history():
        warn(
            "this Git clone is shallow, and its history ends before the last change of the code, so that "
            "no revision is recorded: run `git fetch --unshallow` first"
        )
        revision = None
    if not revision or differing is None or unknown is None:
        return {"revision": None, "clean": False, "changed": []}
    changed = sorted(path for path in {*differing.split("\0"), *unknown.split("\0")} if path)
    return {"revision": revision.strip(), "clean": not changed, "changed": changed}


def ends_of_history() -> list[str]:
    """Return the commits whose parents a shallow clone lacks; any other clone has none."""
    path = _git("rev-parse", "--git-path", "shallow")
    try:
        return Path((path or "").strip()).read_text().split()
    except OSError:
        return []


def _git(*arguments: str) -> str | None:
    """Return the output of a Git command; None if it fails or there is no Git."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def code_identity() -> str:
    """SHA-256 of the project's modules that are loaded now: what made the model, less its libraries."""
    root = Path(__file__).resolve().parents[2]
    files = {
        Path(file).resolve()
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) and file.endswith(".py")
    }
    digest = hashlib.sha256()
    for folder in ("beatline", "stages"):
        for path in sorted(files & set((root / folder).rglob("*.py"))):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
