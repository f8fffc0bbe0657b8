#!/usr/bin/env bash
# What may be in the dependency tree, by deny.toml: of vipd and of the fuzz targets.
#   ./cluster/deny.sh              licences, banned and doubled crates, sources; needs no network
#   ./cluster/deny.sh advisories   known vulnerabilities as well: fetches the RustSec database from GitHub
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH="${XDG_CACHE_HOME:-$HOME/.cache}/vipd/tools/bin:$PATH"
./cluster/setup.sh cargo-deny

# LLVM's fuzzer is in source in the fuzz targets' tree, and in no program that ships: allowed there alone.
fuzz=$(mktemp --suffix .toml)
trap 'rm -f "$fuzz"' EXIT
sed 's/^exceptions = \[\]$/exceptions = [{ crate = "libfuzzer-sys", allow = ["NCSA"] }]/' deny.toml >"$fuzz"

case "${1:-}" in
"")
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
    cargo deny --locked --manifest-path fuzz/Cargo.toml --config "$fuzz" check --hide-inclusion-graph bans licenses sources
    echo "not checked: known vulnerabilities (./cluster/deny.sh advisories, where GitHub can be reached)" >&2
    ;;
advisories)
    cargo deny --locked check bans licenses sources advisories
    cargo deny --locked --manifest-path fuzz/Cargo.toml --config "$fuzz" check bans licenses sources advisories
    ;;
*)
    echo "error: \"$1\" is not advisories" >&2
    echo "next: ./cluster/deny.sh, or ./cluster/deny.sh advisories" >&2
    exit 2
    ;;
esac
