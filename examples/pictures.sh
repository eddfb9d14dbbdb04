#!/usr/bin/env bash
# Make every picture of the README again, on the built-in digits and full MNIST: pictures.sh [DATA]
# DATA is the data folder; left out, MNIST is downloaded into the user's cache folder. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:+--data-dir=$1}
out=examples/pictures
mkdir -p "$out" runs

# Three models: the quick start's, one of the full MNIST, and one of two latent dimensions for the plane.
vae train --config mnist-5k --seed 1 --run runs/quickstart --overwrite
vae train ${data:+"$data"} --config mnist-mlp --seed 1 --run runs/pictures --overwrite
vae train ${data:+"$data"} --config mnist-mlp --seed 1 --run runs/plane --overwrite \
    --latent-dim 2 --epochs 30
vae export --run runs/quickstart
vae export --run runs/pictures
vae export --run runs/plane

vae sample --run runs/quickstart --n 48 --columns 16 --seed 1 --scale 2 -o "$out/samples.png"
vae sample --run runs/quickstart --n 48 --columns 16 --seed 1 --scale 2 --prior normal -o "$out/samples-normal.png"

export VAE_RUN=runs/pictures
vae reconstruct --columns 10 --scale 2 -o "$out/reconstructions.png"
vae interpolate --seed 5 --steps 12 --scale 4 -o "$out/interpolation.gif"
vae traverse --dims 8 --steps 15 --scale 2 -o "$out/traversal.png"
vae plot loss -o "$out/loss.png"
vae manifold --run runs/plane --steps 16 --scale 2 -o "$out/manifold.png"
