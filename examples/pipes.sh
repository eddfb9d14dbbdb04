#!/usr/bin/env bash
# Pipes, loops and JSON: what `vae` is like in a shell script. pipes.sh RUN OUT
# RUN is a folder with an exported model, OUT where the pictures go.
set -euo pipefail
export VAE_RUN=$1
out=$2
mkdir -p "$out"

# stdout carries the picture and nothing else, so it can go anywhere.
vae sample --n 9 --seed 1 --quiet -o - > "$out/nine.png"

# One command's picture is the next one's input.
vae sample --n 1 --seed 1 --scale 1 --quiet -o - | vae reconstruct - --quiet -o "$out/again.png"

# The same seed draws the same pictures, on any machine.
for seed in 1 2 3; do
    vae sample --n 4 --seed "$seed" --quiet -o "$out/seed-$seed.png"
done

# JSON for another program: which seed made the picture that I like?
vae sample --n 4 --json --quiet -o "$out/lucky.png" |
    python3 -c 'import json, sys; print("lucky.png was drawn with seed", json.load(sys.stdin)["seed"])'

# Exit codes tell a script what happened: 0 done, 1 failed, 2 wrong usage, 3 no such device.
if ! vae sample --n 1 --quiet -o "$out/nine.png" --no-clobber 2> "$out/why.txt"; then
    echo "kept nine.png: $(head -n 1 "$out/why.txt")"
fi
