"""``beatline <command>``: what a person or CI types.

A command is a module of :mod:`beatline.commands` with ``add_arguments(parser)`` and ``run(options)``,
which returns the exit status. Only the module of the command that is called is imported: the service
has neither torch nor DVC installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from beatline.commands import ERRORS
from beatline.common.errors import UserError, reporting_mistakes

COMMANDS = {
    "validate": "check params.yaml, every block of it, before anything runs",
    "new": "write the block of params.yaml for recordings of one's own, from a look at them",
    "repro": "run the pipeline as `dvc repro` does, and mend what an interruption has left",
    "repair": "find damaged files in data/ and in DVC's cache, and bring them back",
    "committed": "check that dvc.lock matches code, parameters and reports (needs no data)",
    "small-run": "run the pipeline on few records, in a copy of the project",
    "same": "check that a refactoring changes no output, and record that nothing need run again",
    "describe": "print what a trained model is and what made it",
    "predict": "predict from recordings in files, a row for each",
    "drift": "tell whether what a model is asked still is as its validation records were",
    "features": "fill the feature store from the tables of features",
    "feature-server": "run the server of the feature store",
    "serve": "answer with the trained models: an API and a page",
    "log": "tell what is in the log of answers, or erase what is about one entity",
    "compare": "compare two revisions: every metric, its interval, a verdict",
    "plots": "show the plots that differ between two revisions, in one page",
    "gate": "judge a revision by its base: passed, failed (exit status 1) or cannot tell",
    "leaderboard": "write every revision and experiment into one page",
    "experiments": "list the experiments, their metrics and what they changed",
    "track": "mirror models, metrics and curves into MLflow",
    "register": "make a version in MLflow's registry from a trained model",
    "promote": "make a version the champion if the gate holds, or go back to the one before",
    "retrain": "make a challenger from recordings that experts have labelled",
    "run-queue": "run the queued experiments and wait for them",
}

WITHOUT_DVC = (
    *(
        "validate",
        "new",
        "describe",
        "predict",
        "drift",
        "features",
        "feature-server",
        "serve",
        "log",
    ),
)
SITE_CACHE = "DVC_SITE_CACHE_DIR"  # of the environment; DVC's own name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (without the program's name) name; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in given if word in COMMANDS), None)
    with reporting_mistakes():
        try:
            parser = _parser(called)
        except UserError as error:
            if called not in ERRORS:
                raise
            print(f"error: {error}", file=sys.stderr)
            return ERRORS[called]
        options = parser.parse_args(given)
        if called not in WITHOUT_DVC:
            keep_state_private()
        return options.run(options)


def keep_state_private() -> None:
    """Have DVC, in this process and those that it starts, keep its state where this user alone may write:
    it holds pickles, and DVC's own place is open to all users of the machine.

    Raises UserError if the folder cannot be made, or is somebody else's.
    """
    project = Path(".dvc").absolute()
    if SITE_CACHE in os.environ or not project.is_dir():
        return
    folder = project / "site-cache"
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)  # DVC makes what is missing open to all
    except OSError as error:
        raise UserError(
            f"{folder}: DVC's state cannot be kept here ({error.strerror}): name a folder of your own by"
            f" the environment variable {SITE_CACHE}"
        ) from error
    os.environ[SITE_CACHE] = str(folder)


def _parser(called: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the one that is called. Raises UserError if that
    lacks something that is not installed."""
    parser = argparse.ArgumentParser(
        prog="beatline",
        description="Recordings of hearts and machines in; trained, compared, served models out.",
        epilog="`beatline <command> --help` says what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"beatline {_version()}")
    commands = parser.add_subparsers(metavar="<command>", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == called:
            module = _module(name)
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"beatline.commands.{name.replace('-', '_')}")
    except (ImportError, OSError) as error:  # the latter: of a shared library
        raise UserError(
            f"`beatline {name}` cannot begin ({error}): install what it needs, by `make setup` for the "
            f"pipeline and by requirements-serve.txt for the service"
        ) from None


def _version() -> str:
    try:
        return version("beatline")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
