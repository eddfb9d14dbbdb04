"""Training. Only this package and `exporting` import PyTorch."""
