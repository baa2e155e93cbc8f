#!/usr/bin/env bash
# The GPU tests against the real library of this machine. Without a GPU: says why, and ends with 0.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    printf 'test-gpu: skipped: %s\n' "$1" >&2
    exit 0
}

library=${MUSTER_TEST_NVML:-libnvidia-ml.so.1}
ls /dev/nvidia[0-9]* >/dev/null 2>&1 || skip "this machine has no /dev/nvidia0; the same tests run on the fake library in 'make test'"
case $library in
    */*) [ -e "$library" ] || skip "$library is not there" ;;
    *) ldconfig -p | grep -q "$library" || skip "the loader does not find $library" ;;
esac

. scripts/env.sh
command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=index,name,uuid,driver_version,mig.mode.current --format=csv >&2

# 1. What the worker reads, on this library.
MUSTER_TEST_NVML=$library cargo test --release --quiet -p muster-worker --test gpu

# 2. A worker with real GPUs: a task sees the one that it was given, and a task without sees none.
muster=$PWD/target/release/muster
[ -x "$muster" ] || skip "step 2 needs $muster: run 'make build' first"
dir=$(mktemp -d)
export MUSTER_CONFIG_DIR=$dir/config
"$muster" dev --data-dir "$dir/m" --listen 127.0.0.1:7979 >"$dir/log" 2>&1 &
dev=$!
trap 'kill "$dev" 2>/dev/null; wait "$dev" 2>/dev/null; rm -rf "$dir"' EXIT
for _ in $(seq 300); do
    "$muster" workers >/dev/null 2>&1 && break
    kill -0 "$dev" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
# shellcheck disable=SC2016  # the task expands these
"$muster" run --gpus 1 -- sh -c 'test "$MUSTER_GPU_COUNT" = 1 && nvidia-smi -L | grep -q "$CUDA_VISIBLE_DEVICES"'
"$muster" run -- sh -c '! nvidia-smi -L'

# 3. Two processes of torch, where torch is installed.
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    gpus=$(nvidia-smi -L | wc -l)
    "$muster" run --gpus "$((gpus < 2 ? 1 : 2))" --env "PATH=$PATH" -- \
        python3 -m torch.distributed.run --standalone --nproc_per_node 2 "$PWD/examples/torch-two/all_reduce.py"
else
    printf 'test-gpu: no torch with CUDA for python3; the two-process example was not run\n' >&2
fi
printf 'test-gpu: passed\n' >&2
