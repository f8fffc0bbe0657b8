#!/usr/bin/env bash
# Installs what the lab and the tests need, and says so. As a program:
#   ./cluster/setup.sh haproxy iproute2 nftables python3-venv moto promtool cargo-deb cargo-deny cargo-fuzz
# Sourced: setup NAME...
#
# Names are Debian packages, but for six that go to ${XDG_CACHE_HOME:-~/.cache}/vipd and touch nothing else:
#   moto       a virtual environment with the EC2 that the lab's own is checked against
#   awscli     another, with what keepalived calls in the failover benchmark
#   promtool   Prometheus' checks, out of Debian's package prometheus, whose server shall not run here
#   cargo-deb  makes the Debian package; built from crates.io, which takes a few minutes
#   cargo-deny holds the dependencies to deny.toml; as cargo-deb
#   cargo-fuzz runs the fuzz targets; as cargo-deb
set -euo pipefail

MOTO_VERSION=5.2.5
AWSCLI_VERSION=1.45.11
CARGO_DEB_VERSION=3.8.0
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2

# True if what the package is needed for is there, however it came.
setup_has() {
    local sbin_path="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    case "$1" in
    haproxy) PATH="$sbin_path" command -v haproxy >/dev/null ;;
    iproute2) PATH="$sbin_path" command -v ip >/dev/null ;;
    nftables) PATH="$sbin_path" command -v nft >/dev/null ;;
    curl) command -v curl >/dev/null ;;
    keepalived) PATH="$sbin_path" command -v keepalived >/dev/null ;;
    systemd-container) command -v systemd-nspawn >/dev/null ;;
    systemd) command -v systemd-analyze >/dev/null ;;
    dpkg-dev) command -v dpkg-shlibdeps >/dev/null ;;
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

# setup_venv NAME PROGRAM VERSION REQUIREMENT: a virtual environment of that version, unless it is there.
setup_venv() {
    local dir
    dir="${XDG_CACHE_HOME:-$HOME/.cache}/vipd/$1"
    if [[ "$(cat "$dir/version" 2>/dev/null)" == "$3" && -x "$dir/bin/$2" ]]; then
        return 0
    fi
    echo "setup: installing $4 from PyPI in $dir (about a minute)" >&2
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "$4" >&2
    echo "$3" >"$dir/version"
}

setup_moto() {
    setup_venv moto moto_server "$MOTO_VERSION" "moto[server,ec2]==$MOTO_VERSION"
}

setup_awscli() {
    setup_venv awscli aws "$AWSCLI_VERSION" "awscli==$AWSCLI_VERSION"
}

# The programs are then in "$(setup_tools_dir)/bin".
setup_tools_dir() {
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/vipd/tools"
}

setup_promtool() {
    local bin dir
    bin="$(setup_tools_dir)/bin"
    if command -v promtool >/dev/null || [[ -x "$bin/promtool" ]]; then return 0; fi
    echo "setup: taking promtool out of Debian's package prometheus, into $bin" >&2
    dir="$(mktemp -d)"
    # As this user: apt's own cannot write there.
    (cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root prometheus >&2 && dpkg-deb -x prometheus_*.deb .)
    install -D -m 755 "$dir/usr/bin/promtool" "$bin/promtool"
    rm -rf "$dir"
}

# setup_cargo NAME VERSION: a cargo subcommand of that version, unless it is there.
setup_cargo() {
    local dir
    dir="$(setup_tools_dir)"
    if [[ "$("$dir/bin/$1" --version 2>/dev/null)" == *"$2"* ]]; then return 0; fi
    echo "setup: building $1 $2 in $dir (a few minutes)" >&2
    # Without link-time optimization, which cargo-deny asks for: it runs for a second, and builds for minutes.
    CARGO_TARGET_DIR="$dir/target" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --locked --root "$dir" --version "$2" "$1" >&2
    rm -rf "$dir/target"
}

setup_cargo_deb() {
    setup_cargo cargo-deb "$CARGO_DEB_VERSION"
}

setup_cargo_deny() {
    setup_cargo cargo-deny "$CARGO_DENY_VERSION"
}

setup_cargo_fuzz() {
    setup_cargo cargo-fuzz "$CARGO_FUZZ_VERSION"
}

setup() {
    local packages=() own=() name
    for name in "$@"; do
        case "$name" in
        moto | awscli | promtool | cargo-deb | cargo-deny | cargo-fuzz) own+=("$name") ;;
        *) packages+=("$name") ;;
        esac
    done
    if ((${#packages[@]})); then setup_packages "${packages[@]}"; fi
    for name in "${own[@]}"; do "setup_${name//-/_}"; done
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    setup "$@"
fi
