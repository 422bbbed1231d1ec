"""Croissant metadata of a data set: what others load its records, labels and splits by.

JSON-LD of MLCommons Croissant 1.0 with its vocabulary for responsible AI
(https://docs.mlcommons.org/croissant/docs/croissant-spec.html), for `mlcroissant` and what else reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from beatline.common import sums
from beatline.common.files import read_csv, sha256
from beatline.datasets.cards import words_of
from beatline.reporting.document import CARDS
from beatline.reporting.results import SPLITS, DatasetResults
from beatline.sources.pack import Pack

TO_ROOT = "../../"  # from the folder of the cards
RECORDS, SPLIT_NAMES = "records", "splits"  # the record sets
DESCRIPTIONS = {
    "record": "Name of the recording in the archive of recordings.",
    "group": "The patient, machine or other group that no split parts.",
    "normal": "1 if a detector of anomalies may learn the recording as normal.",
    "fold": "The split that the publishers recommend, where there is one.",
    "alike": "The first of the records that are equal to this one.",
}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant_path(name: str) -> str:
    """Return the path of the metadata of the data set `name`, relative to report.md."""
    return f"{CARDS}/{name}.jsonld"


def croissant_metadata(results: DatasetResults, content: Mapping[str, Any], root: Path) -> str:
    """The metadata as JSON-LD, to lie in the folder :data:`CARDS` beside the report: its files are named
    relative to that. Raises UserError if one of them is missing or damaged."""
    name = results.name
    words = words_of(name, content["datasets"], results.dataset_info)
    labels = sums.verified(root / f"data/labels/{name}/labels.csv")
    split = sums.verified_alone(root / f"data/splits/{name}.csv")
    raw = root / f"data/raw/{name}.zip"
    with Pack(raw) as pack:
        for member in pack.names():
            pack.read(member)  # which compares its sum
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "@id": name,
        "name": name,
        "description": f"{results.dataset_info['title']}. {words.collected}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": words.licence,
        "citeAs": results.dataset_info["citation"],
        "isLiveDataset": False,
        "rai:dataCollection": words.collected,
        "rai:dataAnnotationProtocol": words.labelled,
        "rai:dataUseCases": words.use,
        "rai:dataLimitations": [*words.limits, *words.misuse],
        "distribution": [
            _file("labels.csv", labels, root, "text/csv", "The labels of each recording."),
            _file("split.csv", split, root, "text/csv", "The split of each recording."),
            _file(
                "recordings.zip",
                raw,
                root,
                "application/zip",
                "The files of the source.",
            ),
        ],
        "recordSet": [
            _splits(),
            _records(results, read_csv(labels, sections=results.section_column)),
        ],
    }
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def _file(name: str, path: Path, root: Path, encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": TO_ROOT + path.relative_to(root).as_posix(),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": encoding,
        "sha256": sha256(path),
    }


def _splits() -> dict[str, Any]:
    """The names of the splits, as Croissant wants them told."""
    field = {
        "@type": "cr:Field",
        "@id": f"{SPLIT_NAMES}/name",
        "name": "name",
        "dataType": "sc:Text",
    }
    return {
        "@type": "cr:RecordSet",
        "@id": SPLIT_NAMES,
        "name": SPLIT_NAMES,
        "dataType": "cr:Split",
        "key": {"@id": field["@id"]},
        "field": [field],
        "data": [{field["@id"]: split} for split in SPLITS],
    }


def _records(results: DatasetResults, labels: pd.DataFrame) -> dict[str, Any]:
    """A record for each row of labels.csv, with its split, which is joined by the record's name."""
    record, *others = (_field(results, str(name), column) for name, column in labels.items())
    record["references"] = {"fileObject": {"@id": "split.csv"}, "extract": {"column": "record"}}
    split = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/split",
        "name": "split",
        "description": "The split that models learn from (train), are chosen by or are tested on.",
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": "split.csv"}, "extract": {"column": "split"}},
        "references": {"field": {"@id": f"{SPLIT_NAMES}/name"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": "The recordings with labels and splits.",
        "key": {"@id": record["@id"]},
        "field": [record, split, *others],
    }


def _field(results: DatasetResults, name: str, column: pd.Series) -> dict[str, Any]:
    kinds = {"i": "sc:Integer", "f": "sc:Float"}
    is_class = f"1 if the recording is of the class {name}."
    description = is_class if name in results.classes else DESCRIPTIONS.get(name)
    return {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{quote(name, safe='')}",  # part of an address
        "name": name,
        **({"description": description} if description else {}),
        "dataType": kinds.get(column.dtype.kind, "sc:Text"),
        "source": {"fileObject": {"@id": "labels.csv"}, "extract": {"column": name}},
    }
