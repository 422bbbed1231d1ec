"""The base of every room: errors in one sentence, parameters read strictly, files written whole."""
