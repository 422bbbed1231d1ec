"""Simulated machine sounds, normal and faulty."""
