#!/usr/bin/env bash
# What may be in the dependency tree, by deny.toml: of vipd and of the fuzz targets.
#   ./cluster/deny.sh              licences, banned and doubled crates, sources; needs no network
#   ./cluster/deny.sh advisories   known vulnerabilities as well: fetches the RustSec database from GitHub
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH="${XDG_CACHE_HOME:-$HOME/.cache}/vipd/tools/bin:$PATH"
./cluster/setup.sh cargo-deny

case "${1:-}" in
"")
    # The one exception is the fuzz targets'.
    cargo deny --locked check --hide-inclusion-graph -A license-exception-not-encountered bans licenses sources
    cargo deny --locked --manifest-path fuzz/Cargo.toml check --hide-inclusion-graph bans licenses sources
    echo "not checked: known vulnerabilities (./cluster/deny.sh advisories, where GitHub can be reached)" >&2
    ;;
advisories)
    cargo deny --locked check -A license-exception-not-encountered bans licenses sources advisories
    cargo deny --locked --manifest-path fuzz/Cargo.toml check bans licenses sources advisories
    ;;
*)
    echo "error: \"$1\" is not advisories" >&2
    echo "next: ./cluster/deny.sh, or ./cluster/deny.sh advisories" >&2
    exit 2
    ;;
esac
