#!/usr/bin/env bash
# Builds the one binary and leaves it at target/release/muster in this checkout. Called by make; see scripts/env.sh for
# where the rest is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

# A cold build is long enough that a person deserves to know what is going on.
if ! compgen -G "$CARGO_TARGET_DIR/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null; then
    cat >&2 <<TXT
build: first build on this machine ($(nproc) cores), into $MUSTER_CACHE
build: RocksDB (343 C++ files, the durable store of the Raft log) is about 21 CPU-minutes of the 29, then
build: some 350 Rust crates (gRPC, Raft, the CLI): about 15 minutes on two free cores.
build: Later builds take seconds: the objects stay in ccache and in the target directory there.
TXT
fi

# --workspace, so that crate features are the same as in the tests and nothing is compiled twice; one binary of it.
# Two checkouts share the target directory: the lock keeps the other one's binary from being the one we copy.
mkdir -p "$MUSTER_CACHE" target/release
exec 9>"$MUSTER_CACHE/build.lock"
flock 9
# shellcheck disable=SC2086  # the flags are words on purpose
cargo build ${MUSTER_CARGO_FLAGS:-} --release --workspace --bin muster 9>&-

# Copied beside and renamed: a running daemon keeps its old file, and nobody ever sees half of one. No copy when equal,
# so that the time of the file says when the program changed.
if ! cmp -s "$CARGO_TARGET_DIR/release/muster" target/release/muster; then
    cp "$CARGO_TARGET_DIR/release/muster" "target/release/.muster.$$"
    mv -f "target/release/.muster.$$" target/release/muster
fi
