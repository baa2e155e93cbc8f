#!/usr/bin/env bash
# Installs what a build needs and this machine lacks; says what and why. Idempotent, and silent in a few milliseconds
# when nothing is missing. Debian and Ubuntu are served by apt; elsewhere it names what to install by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# --- 1. What is missing, and what it is for --------------------------------------------------------------------
packages=()
need() { # need PACKAGE REASON
    packages+=("$1")
    say "missing $1: $2"
}

have_libclang() {
    local dir file
    for dir in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib /usr/lib; do
        for file in "$dir"/libclang.so* "$dir"/libclang-[0-9]*.so*; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

command -v gcc >/dev/null 2>&1 || need gcc "compiles the C parts of RocksDB's dependencies, and links"
command -v g++ >/dev/null 2>&1 || need g++ "compiles RocksDB (C++20), the store of the Raft log"
command -v make >/dev/null 2>&1 || need make "the entry of every gate"
command -v ccache >/dev/null 2>&1 || need ccache "keeps RocksDB's objects: a rebuild takes one minute instead of fifteen"
have_libclang || need libclang-dev "reads RocksDB's C header (bindgen); without it the build stops after 24 s"
command -v python3 >/dev/null 2>&1 || need python3 "runs the demo's tasks"
if ! { command -v python3 >/dev/null 2>&1 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }; then
    need python3-venv "makes the virtual environment of the demo's tasks"
fi
if ! command -v cargo >/dev/null 2>&1; then
    command -v curl >/dev/null 2>&1 || need curl "fetches rustup"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates "https"
fi

# --- 2. System packages ----------------------------------------------------------------------------------------
if [ "${#packages[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null 2>&1 || die "no apt-get on this machine, and these are missing: ${packages[*]}" \
        "install them with your package manager (names are Debian's), then run the same command again"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "not root and no sudo, and these are missing: ${packages[*]}" \
            "as root: apt-get install ${packages[*]}"
        # Without a terminal sudo must not wait for a password that nobody can type.
        if [ -t 0 ]; then as_root=(sudo); else as_root=(sudo -n); fi
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; }
    say "installing ${packages[*]} (apt)"
    # The package lists are refreshed only when they are too old to be of use: that needs the network too, and time.
    if ! apt install -y --no-install-recommends "${packages[@]}"; then
        if ! apt update || ! apt install -y --no-install-recommends "${packages[@]}"; then
            tail -n 15 "$log" >&2
            die "apt could not install: ${packages[*]}" \
                "is this machine offline? install them by hand (apt-get install ${packages[*]}), then run the same command again"
        fi
    fi
    say "installed"
fi

# --- 3. Rust ---------------------------------------------------------------------------------------------------
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null 2>&1; then
    say "missing Rust $want: installing the stable toolchain with rustup into ${CARGO_HOME:-$HOME/.cargo}"
    curl --proto '=https' --tlsv1.2 -fsS --retry 3 https://sh.rustup.rs \
        | sh -s -- -y -q --no-modify-path --profile minimal -c rustfmt -c clippy >&2 \
        || die "rustup could not be installed" "install Rust $want or newer (https://rustup.rs), then run the same command again"
    . scripts/env.sh
fi
have=$(cargo --version | awk '{print $2}')
if [ "$(printf '%s\n%s\n' "$want" "${have%%-*}" | sort -V | head -n 1)" != "$want" ]; then
    die "Rust $have is installed; this repository needs $want or newer" "rustup update stable"
fi

mkdir -p "$MUSTER_CACHE"
