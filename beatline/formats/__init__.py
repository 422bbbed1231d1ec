"""File formats of recordings, read from bytes, for the pipeline and for the service alike."""
