#!/usr/bin/env bash
# House rules that a machine can check and the compiler does not. Errors end with 1; a long file is only a warning.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bad=0

report() { # report WHAT LINES
    [ -z "$2" ] && return
    printf 'house: %s\n%s\n' "$1" "$2"
    bad=1
}
# Rust lines without their comments, as file:line:code. `://` is not a comment.
code() {
    git ls-files -co --exclude-standard -- "$@" | xargs -r -d '\n' grep -nH '' 2>/dev/null \
        | sed -E 's#^([^:]+:[0-9]+:)[[:space:]]*//.*$#\1#; s#([^:])//.*$#\1#' | grep -vE ':[0-9]+:[[:space:]]*$'
}

# 1. The wall: core and agent know no runtime, wire, disk, clock, chance or unordered map. Their manifests keep the
#    crates out; this keeps std's out too, and says so before a compiler would.
report "coordinator/core and worker/agent are pure: no runtime, wire, disk, clock, chance or unordered map" "$(
    code 'coordinator/core/src/*.rs' 'worker/agent/src/*.rs' \
        | grep -E '\b(tokio|tonic|rocksdb|openraft)\b|SystemTime::now|Instant::now|thread_rng|std::(fs|net)\b|\bHash(Map|Set)\b'
)"
# 2. openraft is named in one place.
report "openraft belongs to coordinator/src/raft/" "$(
    code '*.rs' | grep -E '\bopenraft\b' | grep -vE '^coordinator/src/raft(/|\.rs:)'
)"
# 3. Nothing is left open in what lands.
report "unfinished code" "$(code '*.rs' | grep -E '\b(todo|unimplemented)!')"
# 4. Each crate's manifest takes versions from the workspace.
report "versions belong to [workspace.dependencies] in Cargo.toml" "$(
    git ls-files -co --exclude-standard -- '*/Cargo.toml' | xargs -r grep -HnE '^[a-z0-9_-]+ *= *("|\{ *version)' | grep -vE ':(name|path|version|description|edition|license|rust-version|harness|build|repository) *='
)"

long=$(git ls-files -co --exclude-standard -- '*.rs' | xargs -r -d '\n' wc -l 2>/dev/null | awk '$2 != "total" && $1 > 500 {print "  " $1 " " $2}' | sort -rn)
[ -z "$long" ] || printf 'house: warning: over 500 lines; is each still one thing?\n%s\n' "$long"

[ "$bad" -eq 0 ] || exit 1
