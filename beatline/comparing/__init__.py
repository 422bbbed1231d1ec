"""Two states of the project compared: what changed, what the metrics did, and whether it matters."""
