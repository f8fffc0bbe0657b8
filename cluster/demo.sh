#!/usr/bin/env bash
# The demo, from a fresh clone on a Debian machine with a Rust toolchain: installs what is missing, builds, and runs
# `vip-lab demo`, which brings up three zones, breaks them and takes them down again. Arguments go to `vip-lab demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Where programs like nft are for those who are not root.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

if [[ -z "${VIP_LAB_LOGS:-}" ]]; then
    # shellcheck source=cluster/setup.sh
    source cluster/setup.sh
    if ! command -v cargo >/dev/null; then
        echo "demo: cargo is missing; a Rust toolchain comes from https://rustup.rs" >&2
        exit 1
    fi
    setup haproxy iproute2 nftables build-essential
    target="${CARGO_TARGET_DIR:-target}"
    if [[ ! -x "$target/debug/vipd" ]]; then
        echo "demo: building; the first build takes about ten minutes" >&2
    fi
    cargo build --workspace --all-targets
    if ((EUID != 0)); then
        if ! unshare -rnm true; then
            echo "demo: this machine lets you make no user namespace; run the demo as root, or see the sysctls" >&2
            echo "      kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns" >&2
            exit 1
        fi
        echo "demo: you are not root; going on in a user namespace (unshare -rnm) with a /run of its own" >&2
        # That /run is gone with the namespace; the logs shall not be.
        VIP_LAB_LOGS="$(mktemp -d "${TMPDIR:-/tmp}/vip-lab.XXXXXX")"
        export VIP_LAB_LOGS
        exec unshare -rnm -- cluster/demo.sh "$@"
    fi
else
    mount -t tmpfs tmpfs /run
    set -- --dir "$VIP_LAB_LOGS" "$@"
fi

exec "${CARGO_TARGET_DIR:-target}/debug/vip-lab" demo "$@"
