"""Use an exported model from Python, without PyTorch.

    python examples/use_model.py RUN OUT.png

RUN is a folder with an exported model. Images are NumPy arrays (n, h, w), or (n, h, w, c) in colour.
"""

import sys

import numpy as np
from PIL import Image

import vaecli

if len(sys.argv) != 3:
    sys.exit("usage: python examples/use_model.py RUN OUT.png")
run, out = sys.argv[1:]
model = vaecli.load(run)
if model.conditional:
    model = model.given(model.classes[0])  # all that follows is of this class

images = model.sample(8, seed=1)  # (8, h, w) float32 in [0, 1]
mean, std = model.encode(images)  # (8, d) each: where the encoder thinks they came from
again = model.decode(mean)  # (8, h, w)
between = model.interpolate(images[0], images[1], steps=8)  # (8, h, w), from the first to the second

rows = [np.concatenate(list(row), axis=1) for row in (images, again, between)]
Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(out)
print(f"{out}: samples, their reconstructions, and the way from the first to the second; std {std.mean():.2f}")
