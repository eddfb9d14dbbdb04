#!/usr/bin/env bash
# Fetch ONNX Runtime Web again with npm, check its files against SHA256SUMS, and put them here as they are committed.
# With another version as argument: fetch that one, and write its sums.
set -euo pipefail
cd "$(dirname "$0")"

version=${1:-$(sed -n 's/^# onnxruntime-web //p' SHA256SUMS)}
files=(ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm)
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent "onnxruntime-web@$version" >/dev/null && tar -xzf ./*.tgz)
cd "$work/package/dist"
if [ $# -gt 0 ]; then
    { echo "# onnxruntime-web $version"; sha256sum "${files[@]}"; } >"$here/SHA256SUMS"
fi
grep -v '^#' "$here/SHA256SUMS" | sha256sum --check
cp ort.wasm.bundle.min.mjs "$here/"
gzip -9 --no-name --stdout ort-wasm-simd-threaded.wasm >"$here/ort-wasm-simd-threaded.wasm.gz"
