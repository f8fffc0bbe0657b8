#!/usr/bin/env bash
# Every test, from units to the lab and moto. Installs what is missing, saying so.
#   ./cluster/test.sh          all of it
#   ./cluster/test.sh quick    without the lab: nothing is installed
set -euo pipefail
cd "$(dirname "$0")/.."

mode="${1:-all}"
case "$mode" in
all | quick) ;;
*)
    echo "error: there is no mode \"$mode\"" >&2
    echo "next: ./cluster/test.sh, or ./cluster/test.sh quick" >&2
    exit 2
    ;;
esac

say() { printf '\n== %s\n' "$*"; }

if [ "$mode" = all ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "error: the tests make network namespaces and mounts, which needs root" >&2
        echo "next: run it as root, or ./cluster/test.sh quick" >&2
        exit 2
    fi
    say "what the tests need"
    ./cluster/setup.sh haproxy iproute2 nftables ca-certificates util-linux python3-venv moto \
        systemd systemd-container dpkg-dev promtool cargo-deb cargo-deny cargo-fuzz
fi

say "format"
cargo fmt --all -- --check

say "build (the first takes about ten minutes on two cores: aws-sdk-ec2)"
cargo build --workspace --all-targets

say "lints"
cargo clippy --workspace --lib --bins --bench failover --bench micro -- -D warnings

if [ "$mode" = quick ]; then
    say "units, configuration, vipctl, the source's own rules"
    cargo test --workspace --lib --bins --test arrows --test config --test peers --test tls --test vipctl --test vpc
    exit 0
fi

say "what may be in the dependency tree: licences, bans, sources (deny.toml)"
./cluster/deny.sh

# The lab's tests share two cores and tell who owns the VIP by time: one at a time.
say "units and adapters"
cargo test --workspace --lib --bins --test arrows --test config --test vipctl --test vpc --test peers --test tls --test net --test health
say "fuzz targets: ten seconds each (./cluster/fuzz.sh 3600: an hour each); the first build takes about six minutes on two cores"
./cluster/fuzz.sh 10
say "the group in virtual time: 2 000 seeds, every guard taken out"
./cluster/sim.sh
say "the lab itself"
cargo test --workspace --test lab -- --test-threads=1
say "what ships beside the programs: alerts, the systemd unit, the Debian package on a booted systemd"
cargo test --workspace --test pack -- --test-threads=2
say "vipd-faults: vipd with its fault points (docs/FAULTS.md)"
cargo build --workspace --features vipd/fault-points --bin vipd-faults
say "the group, end to end, on the lab's EC2 and on moto"
cargo test --workspace --test e2e -- --test-threads=1
say "every test has passed"
