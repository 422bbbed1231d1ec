"""A network as an ONNX graph: written, compared with torch, and run without it."""
