#!/bin/sh
# Installs Debian packages that are missing: scripts/packages.sh PACKAGE...
#
# Only what is missing, only on Debian or its children, only as root; else it says what to install.
set -eu

missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    printf 'missing:%s\nInstall them, for example: sudo apt-get install%s\n' "$missing" "$missing" >&2
    exit 1
fi
printf 'installing:%s\n' "$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# Services are started by whoever needs them, not by their installation.
# shellcheck disable=SC2086 # a list of names
{ apt-get update && RUNLEVEL=1 apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null || {
    tail -n 15 "$log" >&2
    printf 'could not install:%s\n' "$missing" >&2
    exit 1
}
