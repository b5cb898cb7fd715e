"""Graphs: the networks of a bundle as ONNX, which run without torch."""
