# shellcheck shell=bash
# The build environment; to be sourced, not run:  . scripts/env.sh
#
# Everything that is slow to make lives in one cache outside the checkout, so that a second clone, `make demo`,
# `make test` and `.ci/run` never compile RocksDB (343 C++ files) twice:
#
#   $MUSTER_CACHE (default ~/.cache/muster)
#     target/   cargo's target directory, shared by all checkouts
#     ccache/   compiled C++ objects: survive even a `cargo clean`
#     venv/     numpy, scikit-learn and matplotlib for examples/digits
#     venv-moto/     the server that tests of the store and the drivers run against
#     venv-api/      what tests the REST API against its own document
#     prometheus/    promtool, which judges metrics
#     venv-torch/   torch and transformers for the examples that train with them, if you asked for it
#
# It sets variables and nothing else: it installs nothing and prints nothing.

export MUSTER_CACHE="${MUSTER_CACHE:-$HOME/.cache/muster}"
export CARGO_TARGET_DIR="$MUSTER_CACHE/target"

# cargo treats another value of CC as a reason to build RocksDB again, so it must be the same in every call: setup.sh,
# which every make target runs first, installs ccache.
if command -v ccache >/dev/null 2>&1; then
    export CCACHE_DIR="$MUSTER_CACHE/ccache"
    export CC="ccache gcc" CXX="ccache g++"
fi

# A rustup that was installed a minute ago is not yet on the PATH of this shell.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
