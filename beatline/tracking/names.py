"""What tags, artifacts and aliases are called in MLflow."""

from __future__ import annotations

PREFIX = "beatline."  # of tags
KEY = f"{PREFIX}key"  # the SHA-256 of a run's state in dvc.lock
DATASET, MODEL, SIMULATED = f"{PREFIX}dataset", f"{PREFIX}model", f"{PREFIX}simulated"
WEIGHTS = f"{PREFIX}weights"  # the SHA-256 that model.json has of them
SEAL = f"{PREFIX}bundle"  # of a version: the SHA-256 of its bundle's SHA256SUMS
GATE = f"{PREFIX}gate"  # of a version: what the gate said of it when it was registered
MOVE = f"{PREFIX}move."  # of a registered model: a move of its champion, with its number
LIVE = f"{PREFIX}live"  # of a run that shows a training at work
FINISHED = "FINISHED"  # the status of a run that is whole

# Artifacts of a run: folders, and files.
BUNDLE, PREDICTIONS, FIGURES, PYFUNC = "bundle", "predictions", "figures", "model"
METRICS, LINEAGE, CARD = "metrics.json", "lineage.json", "card.md"

CHAMPION, CHALLENGER = "champion", "challenger"
