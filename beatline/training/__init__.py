"""Training: normalized recordings become a trained network."""
