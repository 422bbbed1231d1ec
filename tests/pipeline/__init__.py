"""The real pipeline in temporary clones."""
