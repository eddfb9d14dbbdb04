#!/usr/bin/env bash
# Make tiny/ anew: a model of 8x8 blobs as `vae` itself trains and exports it, kept in the repository so that every
# later version must still open it. Run it only when the format of an exported model changes on purpose.
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python - "$scratch/blobs.npy" <<'PYTHON'
import sys
import numpy as np

rng = np.random.default_rng(0)
y, x = np.mgrid[:8, :8]
centres = rng.uniform(1, 6, (2000, 2, 1, 1))
squares = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2
np.save(sys.argv[1], np.round(255 * np.exp(-squares / 3)).astype(np.uint8))
PYTHON
(cd "$scratch" && vae train --data blobs.npy --hidden 16 --latent-dim 2 --epochs 30 --seed 1 --device cpu \
    --precision float32 --dropout 0 --learning-rate 5e-3 --run run && vae export --run run)
mkdir -p tiny
cp "$scratch/run/encoder.onnx" "$scratch/run/decoder.onnx" tiny/
vae sample --run tiny --n 3 --seed 1 -o tiny/samples.npy
