"""From normalized recordings to a trained network."""
