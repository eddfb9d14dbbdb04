#!/usr/bin/env bash
# From nothing to digits that your own model has drawn: an environment, a training on the built-in digits,
# an export to ONNX, and pictures made through ONNX Runtime. Everything lands in quickstart/.
# EPOCHS=N trains longer or shorter.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
epochs=${EPOCHS:-40}
if [ ! -x "$venv/bin/vae" ]; then
    echo "Installing into $venv; PyTorch is large, this takes a minute or two." >&2
    bash examples/setup.sh "$venv" cpu,train
fi
PATH="$(cd "$venv/bin" && pwd):$PATH"
export PATH VAE_RUN=quickstart/run

mkdir -p quickstart
vae train --config mnist-5k --epochs "$epochs" --seed 1 --overwrite
vae export
vae sample --n 25 --seed 1 -o quickstart/samples.png
vae reconstruct -o quickstart/reconstructions.png
vae interpolate --seed 1 -o quickstart/interpolation.gif
vae explore -o quickstart/page.html

echo "Look at quickstart/samples.png, reconstructions.png and interpolation.gif; open page.html in a browser." >&2
