#!/bin/sh
# Installs Go where there is none: tests build from Go modules what no package has (tests/gomodule.py).
#
# Only as root; for others the build says what to install.
set -eu
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || exit 0
command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || scripts/packages.sh golang-go
