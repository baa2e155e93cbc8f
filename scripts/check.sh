#!/usr/bin/env bash
# The one gate, the same here and in CI. It edits nothing, runs every step even after one failed, and names those that
# did at the end. Tools that are optional on a machine are skipped with the reason.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/env.sh

failed=()
step() { # step NAME COMMAND…
    local name=$1 from=$SECONDS
    shift
    printf '== %s: %s\n' "$name" "$*"
    if "$@"; then
        printf '   %s ok (%s s)\n' "$name" "$((SECONDS - from))"
    else
        failed+=("$name")
        printf '   %s FAILED (%s s)\n' "$name" "$((SECONDS - from))"
    fi
}
skip() { printf '== %s: skipped, %s\n' "$1" "$2"; }

# shellcheck disable=SC2206  # the flags are words on purpose
flags=(${MUSTER_CARGO_FLAGS:-} --release)

step house scripts/house.sh
step format cargo fmt --all --check
step lints cargo clippy "${flags[@]}" --workspace --all-targets --quiet -- -D warnings
step rustdoc env RUSTDOCFLAGS="-D warnings" cargo doc "${flags[@]}" --workspace --no-deps --quiet
if command -v cargo-deny >/dev/null 2>&1; then
    step deny cargo deny --log-level error check
else
    skip deny "cargo-deny is not installed (cargo install cargo-deny): licences and advisories are not looked at"
fi
if command -v typos >/dev/null 2>&1; then
    step typos typos
else
    skip typos "typos is not installed (cargo install typos-cli): spelling is not looked at"
fi
if command -v shellcheck >/dev/null 2>&1; then
    # shellcheck disable=SC2046  # one argument a file
    step shell shellcheck -x $(git ls-files '*.sh' .ci/run)
else
    skip shell "shellcheck is not installed (apt-get install shellcheck): scripts are not looked at"
fi

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'check: FAILED: %s\n' "${failed[*]}"
    echo "hint: make fix mends format and some lints"
    exit 1
fi
echo "check: all passed"
