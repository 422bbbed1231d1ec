"""Where raw files come from (URLs, the package index, archives), and the pack they end up in."""
