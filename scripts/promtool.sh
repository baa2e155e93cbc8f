#!/usr/bin/env bash
# Prometheus' own checker of metrics, for `make test`; prints its path on stdout. Debian's package is unpacked into the cache and not
# installed: its daemon would start. Where there is none to be had it says why and exits with 1; the test is skipped then.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

if command -v promtool; then exit 0; fi
tool="$MUSTER_CACHE/prometheus/usr/bin/promtool"
if [ ! -x "$tool" ]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null \
        || { echo "promtool: not installed, and there is no apt-get to fetch it with" >&2; exit 1; }
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    echo "promtool: fetching Debian's prometheus (20 MB, once); nothing is installed or started" >&2
    # apt fetches as another user, who has to be let in.
    chmod 755 "$dir"
    (cd "$dir" && apt-get -qq download prometheus >/dev/null 2>&1) \
        || { echo "promtool: apt could not fetch prometheus" >&2; exit 1; }
    mkdir -p "$dir/all" "$(dirname "$tool")"
    dpkg-deb --extract "$dir"/prometheus_*.deb "$dir/all"
    mv -f "$dir/all/usr/bin/promtool" "$tool"
fi
echo "$tool"
