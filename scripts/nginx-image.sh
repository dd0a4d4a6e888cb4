#!/bin/sh
# Makes the local nginx image that the docker runtime uses where Docker Hub is out of reach.
#
#   scripts/nginx-image.sh [TAG]        TAG is linkspan-nginx:1 unless given
#
# nginx-light and curl from the Debian packages of this machine's own apt sources, nothing else. Safe to run
# twice and from several processes. (The runtime tries nginx:1-alpine from Docker Hub first.)
set -eu

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
command -v mmdebstrap >/dev/null || "$(dirname "$0")/packages.sh" mmdebstrap ||
    fail "building nginx from Debian packages needs mmdebstrap: apt-get install mmdebstrap"
[ "$(id -u)" = 0 ] || fail "building nginx from Debian packages needs root: sudo $0 $tag"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The suite, mirror and components that this machine itself installs from.
. /etc/os-release
apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$VERSION_CODENAME" '$3 == suite || index($3, suite "-") == 1' | sort -u >"$work/sources.list"
[ -s "$work/sources.list" ] || fail "apt on this machine has no source for $VERSION_CODENAME"
# A proxy may carry a password: into a file, never into the list of processes.
(umask 077 && apt-config dump | grep -E '^Acquire::(https?(::[^ ]*)?::[Pp]roxy|Check-Valid-Until|Check-Date)' >"$work/apt.conf") || true

root=$work/root
mkdir "$root"
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
    --include=nginx-light,curl \
    --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/lintian/*' \
    "$VERSION_CODENAME" "$root" "$work/sources.list" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "mmdebstrap failed; its last lines are above"
}
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/* "$root"/var/log/* \
    "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root"/usr/share/i18n
# Whoever gets the image must not get a password for the mirror with it.
find "$root/etc/apt" -name '*.list' -exec sed -i 's#//[^/@ ]*@#//#' {} +
tar -C "$root" --numeric-owner --sort=name --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c . |
    docker import -c 'CMD ["nginx", "-g", "daemon off;"]' - "$tag" >/dev/null
docker image inspect "$tag" >/dev/null || fail "docker import made no image"
say "$tag made from Debian packages ($PRETTY_NAME, $(chroot "$root" nginx -v 2>&1))"
