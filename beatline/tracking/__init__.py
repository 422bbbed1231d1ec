"""MLflow beside the pipeline: runs mirrored from what DVC knows, and a registry of models. No stage
imports this."""
