"""Measuring an exported model: bounds on log p(x), latent dimensions, strange pictures. Needs no PyTorch."""
