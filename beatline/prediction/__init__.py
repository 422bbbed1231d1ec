"""Prediction: windows, tasks, losses, and the device that computes them."""
