#!/usr/bin/env bash
# Builds the Debian package of the programs that are built already:
#   ./cluster/deb/build.sh [PROFILE [DIR]]     dev, target/debian
# Needs cargo-deb and dpkg-dev (./cluster/setup.sh cargo-deb dpkg-dev). Prints the package's path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=cluster/setup.sh
source cluster/setup.sh
PATH="$(setup_tools_dir)/bin:$PATH"

for tool in cargo-deb dpkg-shlibdeps; do
    if ! command -v "$tool" >/dev/null; then
        echo "error: $tool is missing" >&2
        echo "next: ./cluster/setup.sh cargo-deb dpkg-dev" >&2
        exit 1
    fi
done
profile="${1:-dev}"
target="${CARGO_TARGET_DIR:-target}"
out="${2:-$target/debian}"
built="$target/$profile"
if [[ "$profile" == dev ]]; then built="$target/debug"; fi
for program in vipd vipctl; do
    if [[ ! -x "$built/$program" ]]; then
        echo "error: $built/$program is missing" >&2
        echo "next: cargo build --workspace --bins --profile $profile" >&2
        exit 1
    fi
done

# What the programs say of themselves; cluster/deb/made is where Cargo.toml looks for it.
made=cluster/deb/made
rm -rf "$made"
mkdir -p "$made/man" "$out"
"$built/vipd" --man >"$made/man/vipd.8"
"$built/vipctl" manual "$made/man"
for shell in bash zsh fish; do
    "$built/vipctl" completion "$shell" >"$made/vipctl.$shell"
done
exec cargo-deb --no-build --profile "$profile" --output "$out/"
