#!/usr/bin/env bash
# Runs each fuzz target of fuzz/ (docs/SECURITY.md): what comes from outside, at every decoder.
#   ./cluster/fuzz.sh [SECONDS]          each target for so long, 10 by default; two at a time
#   ./cluster/fuzz.sh SECONDS TARGET...  only these
#   ./cluster/fuzz.sh --keep             what the runs have found since goes into fuzz/corpus, made small
# A crash ends it with 1 and names the file to run again. What a run finds that is new is kept beside the
# build, for the next one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/vipd"
export PATH="$cache/tools/bin:$PATH"
# A build of its own, beside the others, so that a fresh clone does not build it anew.
build="${CARGO_TARGET_DIR:-$cache/target}-fuzz"
found="$build/corpus"
# The sanitizers need a nightly compiler's libraries, and vipd forbids unsafe code: the targets look for
# panics, overflows, and values that do not survive being told on. --cfg fuzzing is cargo-fuzz's own.
options=(--sanitizer none --target-dir "$build")
# Larger inputs than any seed, smaller than what would make a run slow; memory and time as a decoder may use.
limits=(-max_len=8192 -rss_limit_mb=1024 -timeout=10 -print_final_stats=0)

say() { printf '%s\n' "$*" >&2; }

./cluster/setup.sh cargo-fuzz

# EC2's answers have no program: the AWS SDK is not built with coverage (docs/decisions/0050). A unit test hunts.
ec2() {
    mkdir -p "$found/ec2"
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}" VIPD_FUZZ_SECONDS="$seconds" VIPD_FUZZ_FOUND="$found/ec2" \
        cargo test --quiet --workspace --lib fuzz::tests::hunt -- --nocapture >"$build/ec2.log" 2>&1 || return 1
    # A test that is not found passes too.
    grep -q DONE "$build/ec2.log"
}

if [ "${1:-}" = --keep ]; then
    # One for each way in which an answer was treated, the shortest: small as it is.
    if [ -d "$found/ec2" ]; then find "$found/ec2" -type f ! -name 'crash-*' -size -2k -exec cp -t fuzz/corpus/ec2 {} +; fi
    for target in $(cargo fuzz list); do
        [ -d "$found/$target" ] || continue
        cargo fuzz run "${options[@]}" "$target" "fuzz/corpus/$target" "$found/$target" -- -merge=1 "${limits[@]}"
    done
    exit 0
fi

seconds="${1:-10}"
case "$seconds" in
'' | *[!0-9]*)
    say "error: \"$seconds\" is no number of seconds"
    say "next: ./cluster/fuzz.sh 60, or ./cluster/fuzz.sh 60 peer config"
    exit 2
    ;;
esac
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then mapfile -t targets < <(cargo fuzz list && echo ec2); fi

if [ "${targets[*]}" != ec2 ]; then RUSTC_BOOTSTRAP=1 cargo fuzz build "${options[@]}"; fi

# run TARGET: its own log, so that two at a time do not mix.
run() {
    if [ "$1" = ec2 ]; then
        ec2
        return
    fi
    mkdir -p "$found/$1" "$build/artifacts/$1"
    "$build/x86_64-unknown-linux-gnu/release/$1" "${limits[@]}" "-max_total_time=$seconds" \
        "-artifact_prefix=$build/artifacts/$1/" "$found/$1" "fuzz/corpus/$1" >"$build/$1.log" 2>&1
}

passed=0 failed=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
    pids=()
    for target in "${targets[@]:i:2}"; do
        run "$target" &
        pids+=("$!:$target")
    done
    for each in "${pids[@]}"; do
        target="${each#*:}"
        if wait "${each%%:*}"; then
            passed=$((passed + 1))
            say "fuzz $target: $(grep -oE '#[0-9]+\s+DONE.*' "$build/$target.log" | tr -s '\t ' ' ')"
        else
            failed=$((failed + 1))
            tail -n 40 "$build/$target.log" >&2
            say "error: $target found an input that it should stand; its file is named above"
            say "next: a unit test with it that fails, then the fix; the input then goes into fuzz/corpus/$target"
        fi
    done
done
say "fuzz targets: $passed passed, $failed failed, $seconds s each"
((failed == 0))
