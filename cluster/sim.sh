#!/usr/bin/env bash
# The simulation (docs/FENCING.md, section 5).
#   ./cluster/sim.sh                    what the tests run: 2 000 seeds, every mutant, the faults by number
#   ./cluster/sim.sh 100000 [FROM]      so many seeds; prints faults by kind, calls, claims, violations
#   ./cluster/sim.sh --seed N [TEST]    one seed's transcript; as that test runs it, which fails then for what it counts
#   ./cluster/sim.sh --mutants [NAME]   every guard, or this one, taken out: by which property it is noticed, after how many seeds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without the AWS SDK, and with the switches of src/mutant.rs: a build of its own.
sim() {
    cargo test ${profile:+--profile "$profile"} --package vipd --no-default-features --features sim --test sim -- "$@"
}

profile=
case "${1:-}" in
"") sim ;;
--seed)
    export VIPD_SIM_SEED="${2:?a seed}"
    if [ -n "${3:-}" ]; then sim "$3" --nocapture; else sim replay --ignored --exact --nocapture; fi
    ;;
--mutants)
    if [ -n "${2:-}" ]; then export VIPD_SIM_MUTANT="$2"; else profile=sim; fi
    sim every_mutant --nocapture
    ;;
*[!0-9]*)
    echo "error: \"$1\" is neither a number of seeds nor --seed nor --mutants" >&2
    echo "next: ./cluster/sim.sh 10000, or ./cluster/sim.sh --seed 7" >&2
    exit 2
    ;;
*)
    export VIPD_SIM_SEEDS="$1" VIPD_SIM_FROM="${2:-0}"
    # Optimized as a whole, which takes minutes: worth it from some thousands on.
    if [ "$1" -ge 3000 ]; then profile=sim; fi
    sim many_seeds_hold --exact --nocapture
    ;;
esac
