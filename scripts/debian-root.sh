#!/bin/sh
# Sourced by the scripts that make images: a root of Debian packages from this machine's own apt sources.
#
# Whoever sources it has `fail MESSAGE...`, which ends the script, $tag, which is to be made, and $work, an empty
# folder that it removes.

# debian_root TASK PACKAGES: makes $root of minbase and PACKAGES (a,b,c). TASK is for messages.
debian_root() {
    : "${work:?}" "${tag:?}"
    command -v mmdebstrap >/dev/null || "$(dirname "$0")/packages.sh" mmdebstrap ||
        fail "$1 from Debian packages needs mmdebstrap: apt-get install mmdebstrap"
    [ "$(id -u)" = 0 ] || fail "$1 from Debian packages needs root: sudo $0 $tag"

    # The suite, mirror and components that this machine itself installs from.
    # shellcheck source=/dev/null
    . /etc/os-release
    # shellcheck disable=SC2016 # apt-get expands these
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$VERSION_CODENAME" '$3 == suite || index($3, suite "-") == 1' | sort -u >"$work/sources.list"
    [ -s "$work/sources.list" ] || fail "apt on this machine has no source for $VERSION_CODENAME"
    # A proxy may carry a password: into a file, never into the list of processes.
    (umask 077 && apt-config dump | grep -E '^Acquire::(https?(::[^ ]*)?::[Pp]roxy|Check-Valid-Until|Check-Date)' >"$work/apt.conf") || true

    root=$work/root
    mkdir "$root"
    set -- --include="$2"
    # Without perl (47 MB of 170): only `usrmerge` wants it, which is not needed where /usr is merged at once.
    merged=/usr/share/mmdebstrap/hooks/merged-usr
    if [ -e "$merged" ]; then
        printf 'Package: usrmerge\nPin: version *\nPin-Priority: -1\n' >"$work/preferences"
        # shellcheck disable=SC2016 # mmdebstrap gives the hook its $1
        set -- "$@" --setup-hook="$merged/setup00.sh" --essential-hook="$merged/essential00.sh" \
            --setup-hook="copy-in '$work/preferences' /etc/apt" \
            --customize-hook='rm "$1/etc/apt/preferences"'
    fi
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory "$@" \
        --aptopt="$work/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' \
        "$VERSION_CODENAME" "$root" "$work/sources.list" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        fail "mmdebstrap failed; its last lines are above"
    }
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/* "$root"/var/log/* \
        "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root"/usr/share/i18n "$root"/usr/share/locale/*
    # Whoever gets the image must not get a password for the mirror with it.
    find "$root/etc/apt" -name '*.list' -exec sed -i 's#//[^/@ ]*@#//#' {} +
}

# debian_import [-c CHANGE]...: $root as the image $tag.
debian_import() {
    tar -C "$root" --numeric-owner --sort=name --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c . |
        docker import "$@" - "$tag" >/dev/null
    docker image inspect "$tag" >/dev/null || fail "docker import made no image"
}
