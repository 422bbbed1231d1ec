# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""What `beatline features` has Feast do, in Feast's environment and in the repository's folder:

python actions.py materialize            apply the definitions, fill the online store from the tables
python actions.py history VIEW IN OUT    join a view's features to the entities and times of IN (Parquet)

A mistake ends in the names of its kinds and its message on one line of stderr, and exit status 3.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

FAILED = 3
BEGINNING = datetime(1969, 12, 31, tzinfo=UTC)


def materialize() -> None:
    """Apply what definitions.json says, and write each entity's newest row into the online store."""
    import definitions
    from feast import FeatureStore

    store = FeatureStore(repo_path=".")
    now = {view.name: view for view in definitions.views}
    # Rows that were measured in another way are no rows of this view.
    old = [
        view
        for view in store.list_feature_views()
        if view.name not in now or view.tags != now[view.name].tags
    ]
    gone = [each for each in store.list_feature_services() if each.name not in now]
    if old or gone:
        store.apply([], objects_to_delete=[*gone, *old], partial=False)
    store.apply([*definitions.entities, *definitions.views, *definitions.services])
    for name in now:
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):  # lines in colours
            store.materialize(BEGINNING, datetime.now(UTC), [name])
        print(f"materialized {name} in {time.monotonic() - began:.1f} s", flush=True)


def history(view: str, entities: str, output: str) -> None:
    """Write, for each entity and time, the view's newest features from before, as Parquet."""
    import pandas as pd
    from feast import FeatureStore

    store = FeatureStore(repo_path=".")
    service = store.get_feature_service(view)
    joined = store.get_historical_features(pd.read_parquet(entities), service).to_df()
    joined.to_parquet(output, index=False)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    try:
        {"materialize": materialize, "history": history}[sys.argv[1]](*sys.argv[2:])
    except Exception as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
            causes.append(cause)
        kinds = [
            f"{kind.__module__}.{kind.__name__}" for each in causes for kind in type(each).__mro__
        ]
        print(*dict.fromkeys(kinds), "|", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(FAILED)
