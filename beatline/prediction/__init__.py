"""From recordings to predictions: windows, tasks, losses, and the device that computes them."""
