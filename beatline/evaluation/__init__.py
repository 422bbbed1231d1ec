"""Trained models on test records: estimates with intervals, curves, predictions."""
