"""Predict from recordings in files, by a trained model's bundle: a row per recording.

What the API takes is taken here, by the same readers, and answered with the same numbers: a WFDB record,
electrocardiographs' files, sound, tables, arrays, images, folders and ZIP archives of them. A recording
that cannot be read or does not fit is a row that says why.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from beatline.common.files import write_csv
from beatline.serving import predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the model, the files, what they do not say themselves, and where the table goes."""
    parser.add_argument(
        "model",
        help="a bundle's folder, its name such as ptbxl/cnn, or registry:ptbxl/cnn@champion",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="or folder, or archive")
    parser.add_argument("--csv", type=Path, help="write the table there instead of printing it")
    parser.add_argument("--sampling-rate", help="in Hz, of files that do not say theirs")
    parser.add_argument("--unit", help="of the samples, such as uV")
    parser.add_argument("--channels", help="names in the order of the file: I,II,III")


# What readers say of headers of a request, which a command has as options.
AS_OPTIONS = {
    r' \(or "\w+" in JSON\)': "",
    r"(the header )?X-Sampling-Rate": "--sampling-rate",
    r"X-Unit: ([\w ]+?)(?= if|$)": r'--unit "\1"',
    r"(the header )?X-Unit": "--unit",
    r"(the header )?X-Channels": "--channels",
    r"the request (?=says)": "the command ",
    r"the request (?=holds)": "it ",
}


def _for_a_command(text: str) -> str:
    for pattern, words in AS_OPTIONS.items():
        text = re.sub(pattern, words, text)
    return text


def run(options: argparse.Namespace) -> int:
    """Print or write the table; 1 if a recording was not predicted. Raises UserError if there is no such
    model, or no such file."""
    table = predictor.load(options.model).predict(
        options.paths,
        sampling_rate=options.sampling_rate,
        unit=options.unit,
        channels=None if options.channels is None else options.channels.split(","),
        errors="rows",
    )
    for column in (predictor.ERROR, predictor.WARNINGS):
        table[column] = table[column].map(_for_a_command)
    failed = sum(error != "" for error in table[predictor.ERROR])
    if options.csv:
        write_csv(options.csv, table)
        print(f"{len(table)} recordings, {failed} of them not predicted: {options.csv}")
    else:
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    return int(failed > 0)
