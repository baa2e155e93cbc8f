#!/usr/bin/env bash
# muster-chaos with the release binary; arguments go to it. The binary of `make build` is what is tormented.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

scripts/chaos-tools.sh
# --workspace: with other features the whole workspace would be compiled again.
cargo build --release --quiet --workspace --bin muster-chaos
export MUSTER_BIN="$PWD/target/release/muster"
PATH="$PATH:/usr/sbin:/sbin" exec "$CARGO_TARGET_DIR/release/muster-chaos" "$@"
