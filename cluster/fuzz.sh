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
host="$(rustc --print host-tuple)"
options=(--sanitizer none --target "$host" --target-dir "$build")
# Of the AWS SDK only what vipd calls is built, where it is called (cargo's hints.mostly-unused): with all of it, its
# 700 operations take longer than everything else. Flags that cargo-fuzz gives are a nightly compiler's as well.
export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_PROFILE_HINT_MOSTLY_UNUSED=true
# Larger inputs than any seed, smaller than what would make a run slow; memory and time as a decoder may use.
limits=(-max_len=8192 -rss_limit_mb=1024 -timeout=10 -print_final_stats=0)
files_max=400

say() { printf '%s\n' "$*" >&2; }

# keep TARGET: of what is kept and what was found, few that take every branch together; the longest of them, which
# take the most, up to the number that a unit test allows (src/fuzz/tests.rs). What has a name stays.
keep() {
    local kept="fuzz/corpus/$1" few="$build/few/$1"
    rm -rf "$few" && mkdir -p "$few" "$found/$1"
    find "$kept" -regextype egrep -regex '.*/[0-9a-f]{40}' -exec mv -t "$found/$1" {} +
    cp "$kept"/* "$few"
    local named
    named="$(find "$kept" -type f | wc -l)"
    "$build/$host/release/$1" "${limits[@]}" -set_cover_merge=1 -use_counters=0 "$few" "$found/$1" 2>"$build/$1.log"
    find "$few" -regextype egrep -regex '.*/[0-9a-f]{40}' -printf '%s %p\n' | sort -rn | cut -d' ' -f2- |
        awk -v room="$((files_max - named))" 'NR <= room' | xargs -r cp -t "$kept"
    say "fuzz $1: $(find "$kept" -type f | wc -l) kept"
}

# The programs, of the crates in fuzz/Cargo.lock and no others: cargo-fuzz has no --locked of its own.
built() {
    ./cluster/setup.sh cargo-fuzz
    cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
    cargo fuzz build "${options[@]}"
}

if [ "${1:-}" = --keep ]; then
    built
    mapfile -t targets < <(cargo fuzz list)
    for target in "${targets[@]}"; do keep "$target"; done
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
if ((10#$seconds == 0)); then
    say "error: 0 seconds: libFuzzer takes that for no end at all"
    say "next: ./cluster/fuzz.sh 3600 for an hour each"
    exit 2
fi
shift || true
targets=("$@")

built
if ((${#targets[@]} == 0)); then mapfile -t targets < <(cargo fuzz list); fi

# run TARGET: its own log, so that two at a time do not mix.
run() {
    mkdir -p "$found/$1" "$build/artifacts/$1"
    "$build/$host/release/$1" "${limits[@]}" "-max_total_time=$seconds" \
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
