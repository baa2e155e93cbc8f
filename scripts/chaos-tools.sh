#!/usr/bin/env bash
# Installs what muster-chaos can use and this machine lacks. Nothing here is needed: without root, apt or a network it says
# so and ends with 0, and muster-chaos names the faults that it leaves out. Silent in a few milliseconds when all is there.
set -euo pipefail

packages=()
need() { # need PROGRAM PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
need ip iproute2
need nft nftables
need mkfs.ext4 e2fsprogs
need fsfreeze util-linux
[ "${#packages[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "chaos: missing ${packages[*]}: the faults that need them are left out" >&2
    exit 0
fi
echo "chaos: installing ${packages[*]} (apt)" >&2
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >/dev/null 2>&1; }
if ! apt install -y --no-install-recommends "${packages[@]}"; then
    apt update || true
    apt install -y --no-install-recommends "${packages[@]}" \
        || echo "chaos: apt could not install ${packages[*]}: the faults that need them are left out" >&2
fi
