"""MLflow beside the pipeline: runs mirrored from what DVC knows, and a registry of models.

No stage imports this. A run id or a time would change the bytes of a stage's outputs, and DVC's run cache
skips a stage's command: what is in MLflow is copied there afterwards, from `dvc.lock`, reports and
bundles.

``client`` finds the server and puts its faults into sentences; ``runs`` mirrors; ``live`` shows epochs
while a training runs; ``registered`` holds versions and their aliases; ``promotion`` moves them by the
gate; ``pyfunc`` is the model as MLflow loads it, in an environment without this package.
"""
