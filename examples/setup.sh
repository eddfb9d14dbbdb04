#!/usr/bin/env bash
# Make a virtual environment and install this project into it: setup.sh FOLDER EXTRAS, as in setup.sh .venv cpu,train
# PYTHON names the interpreter, python3 where it is not set.
set -euo pipefail
venv=$1 extras=$2
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$python" --version) is too old" >&2
    echo "hint: install Python 3.11 or newer and name it: PYTHON=python3.12" >&2
    exit 1
}
project=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$project[$extras]"
