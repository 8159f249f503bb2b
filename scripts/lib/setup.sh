# Sets up what pyoverlay needs on Debian and Ubuntu. Sourced by the scripts above this folder,
# with $checkout set to the top of the source tree. Everything is said on stderr; nothing is
# done twice.
# shellcheck shell=bash

say() { printf 'pyoverlay: %s\n' "$*" >&2; }

die() {
    printf 'pyoverlay: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2
    exit 1
}

# quietly WORDS... -- COMMAND...: runs COMMAND, shows its output only when it fails.
quietly() {
    local what=() log status=0
    while [ "$1" != -- ]; do what+=("$1"); shift; done
    shift
    say "${what[*]}"
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        cat "$log" >&2
        rm -f "$log"
        die "${what[*]}: failed (exit code $status); the output is above"
    fi
    rm -f "$log"
}

# The words that make a command run as root, in $as_root; fails when there is no way.
find_root() {
    as_root=()
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    if sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    elif [ -t 0 ] && [ -t 2 ]; then
        as_root=(sudo)
        sudo -v >&2 || return 1
    else
        return 1
    fi
}

# apt_install PACKAGE...: without questions; says what to do where that is not possible.
apt_install() {
    [ $# -gt 0 ] || return 0
    local by_hand="apt-get install --no-install-recommends $*"
    command -v apt-get >/dev/null ||
        die "these Debian packages, or what they are called here, are missing: $*" \
            "install them with this system's package manager and run the command again"
    find_root || die "system packages are missing: $*" "as root: $by_hand"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
        apt-get -qq -y -o DPkg::Lock::Timeout=300)
    # A fresh machine has no package lists, an old one has lists of versions that are gone.
    if ! "${apt[@]}" install --download-only --no-install-recommends "$@" >/dev/null 2>&1 </dev/null
    then
        quietly updating package lists -- "${apt[@]}" update
    fi
    quietly "installing system packages: $*" -- \
        "${apt[@]}" install --no-install-recommends "$@"
}

# The python to build the environment with, in $python: 3.11 or newer, with venv and headers.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 /usr/bin/python3 \
        python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null || continue
        "$candidate" - 2>/dev/null <<'PY' || continue
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
PY
        python=$candidate
        return 0
    done
    return 1
}

# What running pyoverlay needs from the system.
install_system_packages() {
    local missing=()
    find_python || missing+=(python3 python3-venv python3-dev)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    pkg-config --exists fuse3 2>/dev/null || missing+=(libfuse3-dev)
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    [ "${#missing[@]}" -eq 0 ] && return
    apt_install "${missing[@]}"
    find_python || die "no Python 3.11 or newer with venv and header files was found" \
        "install one, and name it: PYTHON=/path/to/python3 $0"
}

# install_project [EXTRA]: .venv with the project in it, as pyproject.toml says it.
install_project() {
    local extra=${1:-} wanted
    local stamp=$checkout/.venv/.installed${extra:+-$extra}
    # An environment knows its own path, so one that was moved is another.
    wanted=$({ echo "$checkout" && cat "$checkout"/{pyproject.toml,scripts/lib/setup.sh}; } | sha256sum)
    is_installed "$stamp" "$wanted" && return
    if [ -e "$checkout/.venv" ]; then
        [ -w "$checkout/.venv" ] || die "$checkout/.venv is out of date and belongs to somebody else" \
            "run this command once as its owner, or remove the folder"
    else
        [ -w "$checkout" ] || die "$checkout cannot be written, so no environment can be made in it" \
            "copy the source tree to a place of your own"
    fi
    # The lock is the folder itself; it goes when this shell lets go of it.
    local lock
    exec {lock}<"$checkout"
    flock "$lock"
    if ! is_installed "$stamp" "$wanted"; then
        install_system_packages
        if ! "$checkout/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
            find_python
            quietly making .venv with "$("$python" --version)" -- \
                "$python" -m venv --clear "$checkout/.venv"
        fi
        quietly "installing pyoverlay${extra:+ and what its tests need} into .venv" -- \
            "$checkout/.venv/bin/python" -m pip install --quiet --no-input \
            --config-settings editable_mode=compat --editable "$checkout[${extra:-tui}]"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    exec {lock}<&-
}

# is_installed STAMP WANTED: what the tests need includes what pyoverlay needs.
is_installed() {
    local found
    [ -x "$checkout/.venv/bin/pyoverlay" ] || return 1
    for found in "$1" "${1%-test}-test"; do
        [ "$(cat "$found" 2>/dev/null)" = "$2" ] && return 0
    done
    return 1
}

# The tools that make images for tests and measurements, and that ours are compared with.
install_test_packages() {
    local missing=() need command package
    for need in \
        skopeo umoci buildah podman debootstrap busybox:busybox-static setfattr:attr setfacl:acl \
        newuidmap:uidmap git strace mkfs.ext4:e2fsprogs fuse-overlayfs unionfs:unionfs-fuse crun \
        setcap:libcap2-bin pgrep:procps less script:bsdutils mount xz:xz-utils zstd systemctl:systemd mkfs.btrfs:btrfs-progs; do
        command=${need%%:*} package=${need#*:}
        PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("$package")
    done
    apt_install "${missing[@]}"
}

# What building and running the suites of scripts/conformance takes.
install_conformance_packages() {
    local missing=() need command package
    for need in autoreconf:autoconf automake make cc:gcc openssl pgrep:procps; do
        command=${need%%:*} package=${need#*:}
        PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("$package")
    done
    apt_install "${missing[@]}"
}
