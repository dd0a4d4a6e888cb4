#!/bin/sh
# Makes the local image that code images are built on where Docker Hub may be out of reach.
#
#   scripts/base-image.sh [--ca FILE] [TAG]        TAG is linkspan-base:py311 unless given
#
# Tries python:3.11-slim first (or LINKSPAN_PYTHON_IMAGE, for a mirror of your own), then builds the same from
# the Debian packages of this machine's own apt sources. Safe to run twice and from several processes. Prints
# which of the two was used.
set -eu

# shellcheck source=scripts/debian-root.sh
. "$(dirname "$0")/debian-root.sh"

tag=linkspan-base:py311
ca=${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE:-${PIP_CERT:-}}}
upstream=${LINKSPAN_PYTHON_IMAGE:-python:3.11-slim}
pull_seconds=${LINKSPAN_PULL_SECONDS:-120}
bundle=/etc/ssl/certs/ca-certificates.crt

say() { printf 'base image: %s\n' "$*"; }
fail() { printf 'base image: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --ca) [ $# -ge 2 ] || fail "--ca needs a file"; ca=$2; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option $1" ;;
    *) tag=$1; shift ;;
    esac
done

[ -z "$ca" ] || [ -r "$ca" ] || fail "the CA bundle $ca cannot be read"
docker version >/dev/null 2>&1 || fail "the Docker Engine does not answer; start it, or set DOCKER_HOST"

# One process makes it, the others wait and then find it.
locks=${XDG_CACHE_HOME:-$HOME/.cache}/linkspan
mkdir -p "$locks"
exec 9>"$locks/base-image.lock"
flock 9

ca_id=none
[ -z "$ca" ] || ca_id=$(sha256sum "$ca" | cut -c1-16)
if have=$(docker image inspect -f '{{index .Config.Labels "dev.linkspan.base.ca"}}' "$tag" 2>/dev/null); then
    if [ "$ca_id" = none ] || [ "$have" = "$ca_id" ]; then
        say "$tag is there already"
        exit 0
    fi
    say "$tag is there, but with another CA bundle; making it again"
fi

work=$(mktemp -d)
container=
cleanup() {
    [ -z "$container" ] || docker rm -f "$container" >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

from_docker_hub() {
    timeout "$pull_seconds" docker pull -q "$upstream" >"$work/pull" 2>&1 || return 1
    container=$(docker create "$upstream") || fail "a container of $upstream cannot be created"
    set -- -c "LABEL dev.linkspan.base.ca=$ca_id"
    if [ -n "$ca" ]; then
        docker cp -L "$ca" "$container:$bundle" >/dev/null || fail "the CA bundle cannot be copied into $upstream"
        set -- "$@" -c "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle"
    fi
    docker commit "$@" "$container" "$tag" >/dev/null || fail "$upstream cannot be tagged $tag"
    say "$tag made from $upstream"
}

from_debian() {
    command -v apt-get >/dev/null || fail "$upstream cannot be pulled and this is no Debian. Make a Python 3.11 image yourself and tag it $tag"
    debian_root "$upstream cannot be pulled and building it" python3,python3-venv,ca-certificates
    ln -sf python3 "$root/usr/bin/python"
    [ -z "$ca" ] || install -m 644 "$ca" "$root$bundle"

    set -- -c "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"
    [ -z "$ca" ] || set -- "$@" -c "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle"
    debian_import "$@" -c "LABEL dev.linkspan.base.ca=$ca_id" -c 'CMD ["python3"]'
    say "$tag made from Debian packages ($PRETTY_NAME, $(chroot "$root" python3 -V)); $upstream was not reachable: $(tail -n 1 "$work/pull")"
}

from_docker_hub || from_debian
