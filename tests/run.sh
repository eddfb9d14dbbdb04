#!/usr/bin/env bash
# Make an environment, install the project with everything it can use, and check it: lint, types, tests.
# Extra arguments go to pytest. VAE_DATA=FOLDER with MNIST in it adds the tests on full MNIST.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv-test}
bash examples/setup.sh "$venv" cpu,train,plot,test

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
# Each file on one of up to four processes: on two cores it takes 5 to 8 minutes.
exec "$venv/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
    --no-loadscope-reorder "$@"
