# pyright: reportMissingImports=false
"""Feast's entities, feature views, services and push sources, made of definitions.json beside this file.

`beatline features` writes that file and puts a copy of this one beside it, so that the folder is a whole
Feast repository, in which Feast's own commands work. Feast's environment has no Beatline.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String

FOLDER = Path(__file__).parent
CONTENT = json.loads((FOLDER / "definitions.json").read_text())
TYPES = {"number": Float64, "text": String}


def entity_of(table: dict) -> Entity:
    name = table["entity"]
    return Entity(name=name, join_keys=[name], value_type=ValueType.STRING)


def view_of(table: dict) -> FeatureView:
    """Return the view of a table, with a source to push to if rows are sent to it."""
    source = FileSource(
        name=f"{table['name']}_table",
        path=str((FOLDER / table["source"]).resolve()),
        timestamp_field=table["timestamp"],
    )
    if table["pushed"]:
        source = PushSource(name=table["name"] + "_push", batch_source=source)
    return FeatureView(
        name=table["name"],
        entities=[entity_of(table)],
        ttl=timedelta(seconds=table["ttl_seconds"]),
        schema=[
            Field(name=table["entity"], dtype=String),
            *(Field(name=name, dtype=TYPES[kind]) for name, kind in table["fields"].items()),
        ],
        source=source,
        tags={"definition": table["definition"]},
    )


views = [view_of(table) for table in CONTENT["tables"]]
entities = [entity_of(table) for table in CONTENT["tables"]]
services = [FeatureService(name=view.name, features=[view]) for view in views]
