"""From labelled recordings to data/splits and data/normalized."""
