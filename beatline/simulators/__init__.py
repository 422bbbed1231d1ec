"""Made-up recordings for where no real ones are at hand."""
