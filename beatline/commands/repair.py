"""Find damaged files in data/ and in DVC's cache, and bring them back.

A file in data/ and its copy in the cache are often one file with two names, and DVC trusts both as long
as their times do not change: to remove a damaged file and run `dvc repro` brings the same damage back.
Here every byte is read. What does not have the MD5 in dvc.lock is removed on both sides, and is then
taken from the cache where that is sound, from the remote if there is one, or made again by its stage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from tqdm import tqdm

from beatline.commands.repro import dvc_repro, mend
from beatline.common.errors import UserError
from beatline.tracking import copies


class Expected(NamedTuple):
    """A file of an output, its copy in the cache, and the MD5 that both should have."""

    path: Path
    cached: Path
    md5: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what is to be looked at."""
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files or folders that stages made (none: all of data/)"
    )


def run(options: argparse.Namespace) -> int:
    """0 if all is sound in the end. Raises UserError for a path that no stage makes."""
    mend()
    try:
        with Repo() as repo:
            outs = _outs(repo, options.paths)
            damaged = {}
            for stage, out in tqdm(outs, "look", mininterval=10, unit=" outputs"):
                if wrong := list(_damaged(out)):
                    damaged.setdefault(stage, []).extend(wrong)
            remote = repo.config["core"].get("remote")
    except DvcException as error:
        raise UserError(f"DVC cannot tell: {' '.join(str(error).split())}") from None
    for file in (file for files in damaged.values() for file in files):
        print(f"damaged or missing: {file}", flush=True)
    if not damaged:
        print(f"{len(outs)} outputs are what the stages wrote")
        return 0
    if remote:
        subprocess.run([sys.executable, "-m", "dvc", "pull", "--allow-missing", *damaged])
    return dvc_repro(list(damaged))


def _outs(repo: Repo, paths: list[Path]) -> list[tuple[str, Output]]:
    """The cached outputs that hold one of `paths` or lie in it, each with its stage."""
    outs = [
        (stage.addressing, out)
        for stage in repo.index.stages
        for out in stage.outs
        if out.use_cache and out.hash_info
    ]
    chosen = []
    for path in map(Path.resolve, paths):
        inside = [
            (stage, out)
            for stage, out in outs
            if path.is_relative_to(out.fs_path) or Path(out.fs_path).is_relative_to(path)
        ]
        if not inside and path.is_relative_to(registry := copies.FOLDER.resolve()):
            copied = copies.FOLDER.joinpath(*path.relative_to(registry).parts[:3])
            raise UserError(
                f"{path} is of a copy of what MLflow's registry holds, which no stage has made: delete "
                f"{copied}, and the service or `beatline predict` copies it anew"
            )
        if not inside:
            raise UserError(
                f"{path} is nothing that a stage has made by dvc.lock: name a file or folder in data/"
            )
        chosen += inside
    return chosen if paths else outs


def _damaged(out: Output) -> Iterator[Path]:
    """Remove the files of an output that are not what its stage wrote, here and in the cache; yield
    their paths."""
    assert out.hash_info is not None  # those that have run
    cache, value = out.cache, str(out.hash_info.value)
    listing = Path(cache.oid_to_path(value))
    if not out.hash_info.isdir:
        files = [Expected(Path(out.fs_path), listing, value)]
    elif not listing.is_file() or _md5(listing) != value.removesuffix(".dir"):
        listing.unlink(missing_ok=True)
        yield Path(out.def_path)
        return
    else:
        files = [
            Expected(Path(out.fs_path, entry["relpath"]), Path(cache.oid_to_path(md5)), md5)
            for entry in json.loads(listing.read_text())
            if (md5 := entry["md5"])
        ]
    for file in files:
        sound = file.cached.is_file() and _md5(file.cached) == file.md5
        if not sound:
            file.cached.unlink(missing_ok=True)
        if not file.path.is_file() or _md5(file.path) != file.md5:
            file.path.unlink(missing_ok=True)
            yield file.path.relative_to(Path.cwd())
        elif not sound:
            yield file.cached.relative_to(Path.cwd())


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
