#!/usr/bin/env bash
# A virtual environment in the cache; prints its bin directory on stdout. Made again only when the requirements or the
# interpreter change. Without arguments it is the one of examples/digits: tasks find it because the worker is started
# with this directory first in PATH. scripts/python-env.sh REQUIREMENTS NAME
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

requirements=${1:-examples/digits/requirements.txt}
venv="$MUSTER_CACHE/${2:-venv}"
mkdir -p "$MUSTER_CACHE"
exec 9>"$venv.lock"
flock 9

stamp="$(cat "$requirements" <(python3 -c 'import sys; print(sys.version, sys.base_prefix)') | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ] || [ ! -x "$venv/bin/python3" ]; then
    echo "python: installing $requirements into $venv (100 to 150 MB, once)" >&2
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    if ! "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --retries 5 -r "$requirements" >&2; then
        rm -rf "$venv"
        echo "error: pip could not install $requirements" >&2
        echo "hint: is this machine offline? set PIP_INDEX_URL to a mirror, or PIP_FIND_LINKS to a folder of wheels" >&2
        exit 1
    fi
    echo "$stamp" >"$venv/.stamp"
fi
echo "$venv/bin"
