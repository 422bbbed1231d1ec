"""The report, its cards and its page."""
