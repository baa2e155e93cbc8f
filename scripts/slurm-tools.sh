#!/usr/bin/env bash
# Installs the Slurm that tests of the driver `slurm` run against, where that is safe. Nothing here is needed: elsewhere it says why
# and ends with 0, and the tests say that they were skipped. Silent in a few milliseconds when all is there.
set -euo pipefail

missing=()
for program in slurmctld slurmd sbatch munged; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing+=("$program")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

packages=(slurmctld slurmd slurm-client munge)
leave() {
    echo "slurm: missing ${missing[*]}, and $1: the tests of the driver slurm are skipped" >&2
    exit 0
}
[ "$(id -u)" -eq 0 ] || leave "not root (slurmd starts jobs only as root)"
command -v apt-get >/dev/null 2>&1 || leave "no apt-get"
# The packages start their daemons where systemd runs, and a machine that people use wants no second Slurm.
[ ! -d /run/systemd/system ] || leave "systemd would start the daemons (apt-get install ${packages[*]} if that is welcome)"

echo "slurm: installing ${packages[*]} (apt)" >&2
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >/dev/null 2>&1; }
if ! apt install -y --no-install-recommends "${packages[@]}"; then
    apt update || true
    apt install -y --no-install-recommends "${packages[@]}" || leave "apt could not install them"
fi
