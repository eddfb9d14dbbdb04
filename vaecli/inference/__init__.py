"""Using a model: NumPy and ONNX Runtime, never torch."""
