"""``python -m beatline.commands.run_cache``: `dvc`, which finds results in its run cache again.

Where dvc.lock has an entry for the same inputs, DVC trusts it: if the outputs that it names are not in
the cache, the stage runs, and whether the run cache has others for these inputs is not asked. So with a
dvc.lock of another machine, from a pull or a merge, all that this one has trained is trained again.
"""

from __future__ import annotations

import sys
from typing import Any

from dvc.cli import main
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError, StageCache
from dvc_data.hashfile.hash_info import HashInfo

_restore = StageCache.restore


def restore(self: StageCache, stage: Stage, *arguments: Any, **options: Any) -> None:
    """Restore a stage's outputs as DVC does; if those of dvc.lock are not at hand, those of any run with
    the same inputs. Raises RunCacheNotFoundError if there was none."""
    try:
        _restore(self, stage, *arguments, **options)
    except RunCacheNotFoundError:
        locked = [(out, out.hash_info) for out in stage.outs]
        if not all(hash_info for _, hash_info in locked):
            raise
        for out, _ in locked:
            out.hash_info = HashInfo()
        try:
            _restore(self, stage, *arguments, **options)
        finally:
            for out, hash_info in locked:
                out.hash_info = out.hash_info or hash_info


if __name__ == "__main__":
    StageCache.restore = restore
    sys.exit(main())
