"""Write the block of params.yaml for recordings of one's own, from a look at them.

`beatline new dataset FOLDER` looks at a folder (or a ZIP or tar archive) with recordings and a table that
labels them: formats, channels, sampling rates, lengths, classes, patients. It adds a data set of module
`recordings` and the training of a model to params.yaml, says in comments what it found and what it only
guessed, and changes no other line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from beatline.commands import validate
from beatline.commands.new_blocks import as_yaml, dataset_block, found, inserted, training_block
from beatline.commands.new_look import LONGEST_COMMENT, NORMAL, look, too_few_classes
from beatline.common import params
from beatline.common.errors import UserError, names_there_are, shown
from beatline.common.files import replacing
from beatline.formats.tables import EXTENSIONS
from beatline.sources.archives import open_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folder, and what cannot be guessed."""
    parser.add_argument("what", choices=["dataset"])
    parser.add_argument("source", metavar="FOLDER", help="a folder or an archive with recordings")
    parser.add_argument("--name", help="of the data set (default: that of the folder)")
    parser.add_argument("--table", help="the path in FOLDER of the table, if it is not found")
    parser.add_argument("--labels", help="the column with labels, or several with 0 and 1: a,b,c")
    parser.add_argument(
        "--anomaly", metavar="NORMAL", help="learn only records with this label, to find all others"
    )


def run(options: argparse.Namespace) -> int:
    """Write the block; say what was found and what to run. Raises UserError if it cannot be told."""
    text = params.PATH.read_text() if params.PATH.exists() else ""
    content = params.load()
    path = Path(options.source)
    if not path.exists():
        raise UserError(f"{path} is missing: name a folder or an archive with recordings")
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        raise UserError(
            f"{path} is a table: if its rows are features, docs/data.md says how to add it (a table of "
            f"your own); if it names recordings, give the folder that they are in"
        )
    name = (
        options.name or re.sub(r"[^A-Za-z0-9_-]+", "_", path.name.split(".")[0]).strip("_").lower()
    )
    if not re.fullmatch(params.NAME, name):
        raise UserError(
            f"{name!r} is no name of a data set: give letters, digits, _ and - by --name"
        )
    if name in content["datasets"] or any(name in (on or {}) for on in content["train"].values()):
        raise UserError(f"{params.PATH} has a data set {name} already: give another --name")
    with open_source(path) as source:
        seen = look(source, options.table, options.labels and options.labels.split(","))
    normal: str | None = options.anomaly
    normal = normal or next((c for c in seen.classes if c.lower() in NORMAL), None)
    if len(seen.classes) == 2 and not (normal or seen.several):
        seen.unsure.append(
            f"{max(seen.classes)} is taken for what is to be found, as no label is known as normal: if "
            f"it is the normal one, set aggregate_labels.normal to it"
        )
    if normal and normal not in seen.classes:
        raise UserError(
            f"--anomaly {normal}: no record has that label{names_there_are(normal, seen.classes)}"
        )
    if not options.anomaly and sum(times > 0 for times in seen.classes.values()) < 2:
        raise too_few_classes(seen.table, seen.labels, seen.classes)
    _check_writable([*seen.classes, *seen.labels, *seen.columns.values(), seen.table])
    source_path = path if not path.is_absolute() else path.resolve()
    model = "autoencoder" if options.anomaly else "mlp" if seen.steps == 1 else "cnn"
    data = dataset_block(name, source_path, seen, normal, anomaly=bool(options.anomaly))
    training = training_block(name, model, seen)
    changed = inserted(text, ["datasets"], data)
    changed = inserted(changed, ["train", model], training)
    validate.validate(_checked(changed))
    with replacing(params.PATH) as beside:
        beside.write_text(changed)
    print("\n".join(line.strip().removeprefix("# ") for line in found(name, seen)))
    if seen.bad:
        print(f"such as: {shown(seen.bad[0].problem, LONGEST_COMMENT)}")
    print(f"\nwritten into {params.PATH}: datasets.{name} and train.{model}.{name}")
    print("Look at the comments there, then run")
    print(f"  make repro ONLY={name}    # or: beatline repro --glob '*@{name}'")
    print("  make repro && make serve   # with the report of all data sets, and the served model")
    return 0


def _check_writable(texts: Collection[str]) -> None:
    """Raise UserError for a label or name that would not be the same in YAML."""
    for text in texts:
        if text.isprintable():
            continue
        if YAML(typ="safe", pure=True).load("\n".join(as_yaml({"text": text}, {})))["text"] != text:
            raise UserError(
                f"{text!r} holds a control character that {params.PATH} cannot hold: take it out of the "
                f"table"
            )


def _checked(text: str) -> dict[str, Any]:
    """The content of params.yaml as it would be. Raises UserError if it is not valid."""
    beside = params.PATH.with_name(".params.new.yaml")
    try:
        beside.write_text(text)
        return params.load(beside)
    finally:
        beside.unlink(missing_ok=True)
