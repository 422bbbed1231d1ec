"""Preprocessing: labelled recordings become data/splits and data/normalized."""
