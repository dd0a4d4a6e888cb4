#!/bin/sh
# Makes the local nginx image that the docker runtime uses where Docker Hub is out of reach.
#
#   scripts/nginx-image.sh [TAG]        TAG is linkspan-nginx:1 unless given
#
# nginx-light and curl from the Debian packages of this machine's own apt sources, nothing else. Safe to run
# twice and from several processes. (The runtime tries nginx:1-alpine from Docker Hub first.)
set -eu

# shellcheck source=scripts/debian-root.sh
. "$(dirname "$0")/debian-root.sh"

tag=linkspan-nginx:1

say() { printf 'nginx image: %s\n' "$*"; }
fail() { printf 'nginx image: %s\n' "$*" >&2; exit 1; }

case ${1-} in
-h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
-*) fail "unknown option $1" ;;
?*) tag=$1 ;;
esac

docker version >/dev/null 2>&1 || fail "the Docker Engine does not answer; start it, or set DOCKER_HOST"

# One process makes it, the others wait and then find it.
locks=${XDG_CACHE_HOME:-$HOME/.cache}/linkspan
mkdir -p "$locks"
exec 9>"$locks/nginx-image.lock"
flock 9

if docker image inspect "$tag" >/dev/null 2>&1; then
    say "$tag is there already"
    exit 0
fi

command -v apt-get >/dev/null || fail "this is no Debian: pull nginx:1-alpine on a machine that can reach Docker Hub and bring it here with docker save and docker load"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

debian_root "building nginx" nginx-light,curl
debian_import -c 'CMD ["nginx", "-g", "daemon off;"]'
say "$tag made from Debian packages ($PRETTY_NAME, $(chroot "$root" nginx -v 2>&1))"
