#!/usr/bin/env bash
# Installs what the lab needs, and says so. As a program: ./cluster/setup.sh haproxy iproute2 nftables python3-venv moto
# Sourced: setup NAME...
#
# Names are Debian packages; `moto` is a virtual environment with the EC2 that the lab's own is checked against, in
# ${XDG_CACHE_HOME:-~/.cache}/vipd/moto.
set -euo pipefail

MOTO_VERSION=5.2.5

# True if what the package is needed for is there, however it came.
setup_has() {
    local sbin_path="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    case "$1" in
    haproxy) PATH="$sbin_path" command -v haproxy >/dev/null ;;
    iproute2) PATH="$sbin_path" command -v ip >/dev/null ;;
    nftables) PATH="$sbin_path" command -v nft >/dev/null ;;
    keepalived) PATH="$sbin_path" command -v keepalived >/dev/null ;;
    build-essential) command -v cc >/dev/null ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
    esac
}

setup_packages() {
    local missing=() name
    for name in "$@"; do
        setup_has "$name" || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    local sudo=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "setup: missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        sudo=(sudo)
    fi
    if ! command -v apt-get >/dev/null; then
        echo "setup: missing: ${missing[*]}. There is no apt-get here; install them by hand." >&2
        return 1
    fi
    echo "setup: installing by apt-get: ${missing[*]}" >&2
    local env=(env DEBIAN_FRONTEND=noninteractive)
    if ! "${sudo[@]}" "${env[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; then
        echo "setup: once more, with new package lists" >&2
        "${sudo[@]}" apt-get update -qq >&2
        "${sudo[@]}" "${env[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
    fi
}

# The server is then "$(setup_moto_dir)/bin/moto_server".
setup_moto_dir() {
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/vipd/moto"
}

setup_moto() {
    local dir
    dir="$(setup_moto_dir)"
    if [[ "$(cat "$dir/version" 2>/dev/null)" == "$MOTO_VERSION" && -x "$dir/bin/moto_server" ]]; then
        return 0
    fi
    echo "setup: installing moto[server,ec2] $MOTO_VERSION from PyPI in $dir (about a minute)" >&2
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "moto[server,ec2]==$MOTO_VERSION" >&2
    echo "$MOTO_VERSION" >"$dir/version"
}

setup() {
    local packages=() moto=no name
    for name in "$@"; do
        if [[ "$name" == moto ]]; then moto=yes; else packages+=("$name"); fi
    done
    if ((${#packages[@]})); then setup_packages "${packages[@]}"; fi
    if [[ "$moto" == yes ]]; then setup_moto; fi
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    setup "$@"
fi
