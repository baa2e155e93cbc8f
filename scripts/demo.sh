#!/usr/bin/env bash
# `make demo`: prepares the virtual environment of examples/digits, then scripts/demo.py does the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
venv=$(scripts/python-env.sh)
exec env PATH="$venv:$PATH" MUSTER_BIN="${MUSTER_BIN:-$PWD/target/release/muster}" python3 scripts/demo.py
