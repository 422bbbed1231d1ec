"""Sources of raw files (URLs, the package index, archives), and the pack they end up in."""
