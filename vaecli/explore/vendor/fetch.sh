#!/usr/bin/env bash
# Fetch ONNX Runtime Web again with npm, and the licences of what is in it with pip; check the files against SHA256SUMS,
# and put them here as they are committed. With another version as argument: fetch that one, and write its sums.
set -euo pipefail
cd "$(dirname "$0")"

version=${1:-$(sed -n 's/^# onnxruntime-web //p' SHA256SUMS)}
files=(ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm LICENSE ThirdPartyNotices.txt)
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent "onnxruntime-web@$version" >/dev/null
tar -xzf ./*.tgz
# The npm package has no notices. The wheel is built from the same sources, and has them.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: "onnxruntime==$version"
python3 -m zipfile -e ./*.whl wheel
mkdir files
cp package/dist/{ort.wasm.bundle.min.mjs,ort-wasm-simd-threaded.wasm} wheel/onnxruntime/{LICENSE,ThirdPartyNotices.txt} files/
cd files
if [ $# -gt 0 ]; then
    { echo "# onnxruntime-web $version"; sha256sum "${files[@]}"; } >"$here/SHA256SUMS"
fi
grep -v '^#' "$here/SHA256SUMS" | sha256sum --check
cp ort.wasm.bundle.min.mjs LICENSE ThirdPartyNotices.txt "$here/"
gzip -9 --no-name --stdout ort-wasm-simd-threaded.wasm >"$here/ort-wasm-simd-threaded.wasm.gz"
