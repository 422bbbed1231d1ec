"""Fill the feature store from the tables that extract_features made.

The definitions are applied, and each entity's newest row is written into the online store. A call again
changes nothing, and what machines have sent since stays. The online store is a file, or the PostgreSQL
that FEAST_ONLINE_STORE names (postgresql://user:password@host/database). Feast runs in .venv-feast, which
`make features` installs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beatline.common import params
from beatline.feature_store import definitions, store
from beatline.serving.settings import Serve


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take none: params.yaml says what there is."""


def run(_: argparse.Namespace) -> int:
    """Fill the store and say what is in it. Raises UserError if it cannot be filled."""
    content, root = params.load(), Path()
    max_age = params.block(content, "serve", Serve).max_age_seconds
    tables = definitions.tables(content, root, max_age)
    print("Feast starts (ten seconds or so)", flush=True)
    store.fill(tables, root)
    for table in tables:
        print(
            f"{table.name}: {len(table.features)} features of {table.known_in_all} {table.entity}s"
        )
    print("beatline feature-server answers with them")
    return 0
