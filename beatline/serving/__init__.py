"""Trained models that answer over HTTP, and the page in front of them.

Nothing in here needs torch: a bundle's `model.onnx` is run by ONNX Runtime, and what leads from a file
to the network's input is the pipeline's own code.
"""
