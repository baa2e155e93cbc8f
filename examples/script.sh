#!/bin/bash
#MUSTER --name script --cpus 1 --memory 64MiB
#MUSTER --time 5m --priority 60
# A script submits as it is:   muster submit examples/script.sh --wait
# The #MUSTER lines take the same options as `muster run`; without Muster they are comments and the script still runs.
set -euo pipefail
echo "running as job ${MUSTER_JOB_ID:-none}, on $(hostname)"
for i in 1 2 3; do
    echo "step $i"
done
