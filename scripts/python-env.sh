#!/usr/bin/env bash
# A virtual environment for examples, in the cache; prints its bin directory on stdout. Made again only when the requirements
# or the interpreter change. Tasks find it because the worker is started with this directory first in PATH.
#
#   scripts/python-env.sh           examples/digits: the demo, and `make test`
#   scripts/python-env.sh moto      the server that tests of the store and of the drivers run against (S3, Auto Scaling)
#   scripts/python-env.sh api       what tests the REST API against its own document
#   scripts/python-env.sh torch     examples/torch-ddp and examples/hf-trainer: 3 GB, only when you ask for it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

case "${1:-digits}" in
digits)
    venv="$MUSTER_CACHE/venv"
    requirements=(examples/digits/requirements.txt)
    what="numpy, scikit-learn and matplotlib for examples/digits into $venv (about 100 MB, once)"
    ;;
moto)
    venv="$MUSTER_CACHE/venv-moto"
    requirements=(store/tests/requirements.txt)
    what="moto, a server that speaks S3 and Auto Scaling, into $venv (about 140 MB, once)"
    ;;
api)
    venv="$MUSTER_CACHE/venv-api"
    requirements=(tests/rest/requirements.txt)
    what="schemathesis and openapi-spec-validator for tests of the REST API into $venv (about 90 MB, once)"
    ;;
torch)
    venv="$MUSTER_CACHE/venv-torch"
    requirements=(examples/torch-ddp/requirements.txt examples/hf-trainer/requirements.txt)
    what="torch and transformers for examples/torch-ddp and examples/hf-trainer into $venv (about 3 GB, once)"
    ;;
*)
    echo "error: there is no environment \"$1\"" >&2
    echo "hint: scripts/python-env.sh [digits|moto|api|torch]" >&2
    exit 2
    ;;
esac
mkdir -p "$MUSTER_CACHE"
exec 9>"$venv.lock"
flock 9

stamp="$(cat "${requirements[@]}" <(python3 -c 'import sys; print(sys.version, sys.base_prefix)') | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ] || [ ! -x "$venv/bin/python3" ]; then
    echo "python: installing $what" >&2
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    if ! "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --retries 5 "${requirements[@]/#/-r}" >&2; then
        rm -rf "$venv"
        echo "error: pip could not install ${requirements[*]}" >&2
        echo "hint: is this machine offline? set PIP_INDEX_URL to a mirror, or PIP_FIND_LINKS to a folder of wheels" >&2
        exit 1
    fi
    echo "$stamp" >"$venv/.stamp"
fi
echo "$venv/bin"
