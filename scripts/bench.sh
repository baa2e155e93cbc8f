#!/usr/bin/env bash
# Runs the benchmarks one after the other on this machine, each with its bare counterpart in the same run; what they
# mean and how they were measured is in docs/src/benchmarks.md. Arguments choose: scripts/bench.sh dispatch raft
set -euo pipefail
cd "$(dirname "$0")/.."
muster="$PWD/target/release/muster"

[ "$#" -gt 0 ] || set -- apply plan submit latency dispatch dag raft readopt rolling recover failover planned herd store
printf 'machine: %s, %s cores, Linux %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)"
printf 'commit: %s, load before: %s\n' "$(git describe --always --dirty 2>/dev/null || echo unknown)" "$(cut -d' ' -f1-3 /proc/loadavg)"
for name in "$@"; do
    printf '\n== muster bench %s\n' "$name"
    case "$name" in
        # A million indices run through a simulated worker: memory and bytes written at their end.
        submit) "$muster" bench submit --running ;;
        # A p99 takes 200 samples: about a quarter of an hour, half of it etcd's.
        failover) "$muster" bench failover --count 200 ;;
        planned) "$muster" bench failover --planned --count 200 ;;
        *) "$muster" bench "$name" ;;
    esac
done
