"""Export from PyTorch to ONNX, and the numerical comparison of both."""
