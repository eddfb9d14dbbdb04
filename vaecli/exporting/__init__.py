"""The bridge from torch to ONNX, and the proof that both sides agree."""
