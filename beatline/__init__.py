"""Beatline: raw recordings of hearts and machines in; trained, compared models out."""
