#!/usr/bin/env bash
# All tests. The binary of `make build` is given to the tests of real processes as MUSTER_BIN; examples/digits runs in
# them too, so its virtual environment is first in PATH. Tests of the store and of the drivers have a server of their own.
# Arguments go to the runner: scripts/test.sh -p muster-core
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

PATH="$(scripts/python-env.sh):$PATH"
export PATH
# Three GB are too much to install for two tests; where somebody has (scripts/python-env.sh torch), they run.
[ ! -e "$MUSTER_CACHE/venv-torch/.stamp" ] || export MUSTER_TORCH="$MUSTER_CACHE/venv-torch/bin"
export MUSTER_BIN="$PWD/target/release/muster"
MUSTER_MOTO="$(scripts/python-env.sh moto)/moto_server"
export MUSTER_MOTO
# The REST API against its own document, and metrics against Prometheus: skipped with a reason where these can't be had.
MUSTER_API_CHECKS="$(scripts/python-env.sh api)" || MUSTER_API_CHECKS=""
MUSTER_PROMTOOL="$(scripts/promtool.sh)" || MUSTER_PROMTOOL=""
export MUSTER_API_CHECKS MUSTER_PROMTOOL
scripts/chaos-tools.sh
scripts/slurm-tools.sh

scope=(--workspace)
[ "$#" -eq 0 ] || scope=()
# shellcheck disable=SC2206  # the flags are words on purpose
cargo_flags=(${MUSTER_CARGO_FLAGS:-} --release)

# Examples in rustdoc are tests where a crate has any; each of the other crates would cost a link for nothing.
if [ "$#" -eq 0 ]; then
    while IFS= read -r manifest; do
        crate=$(dirname "$manifest")
        if [ -f "$crate/src/lib.rs" ] && grep -rhE '^\s*//[/!] ```' "$crate/src" | awk -f scripts/doc-examples.awk; then
            cargo test "${cargo_flags[@]}" --quiet --doc --manifest-path "$manifest"
        fi
    done < <(git ls-files '*/Cargo.toml')
fi

# The runner comes last, so that its summary is what is left on the screen.
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run "${cargo_flags[@]}" "${scope[@]}" --no-fail-fast "$@"
fi
exec cargo test "${cargo_flags[@]}" "${scope[@]}" --no-fail-fast --lib --bins --tests "$@"
