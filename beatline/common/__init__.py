"""What every line stands on: errors in one sentence, parameters read strictly, files written whole."""
