#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests of Warren.
#
# usage: scripts/test.sh [--long | --long-run | --crash-run] [--only NAME] [--help]
#   --long       the long forms of the fault tests too (three hours more): 200 faults, power cuts, ten minutes of churn of
#                the topology (WARREN_CHURN_SECONDS and WARREN_CHURN_RATE say how long and how fast, with or without --long),
#                and an hour of every fault in turn on five nodes (WARREN_LONG_MINUTES; WARREN_SEED repeats one)
#   --long-run   that hour alone
#   --crash-run  the crash tests alone, 100 times as long as without --long: power cuts, torn writes, damage and random histories of
#                the stores, then 2,000 faults of processes under load (WARREN_FAULTS; WARREN_SEED repeats them; some hours)
#   --only NAME  one package: a directory of crates/ or tests/ (queue, storage, tidy, cluster, ...)
#
# Crates without RocksDB are tested in the dev profile, the others in release, then the packages under tests/ start the
# built binary. Last line: "N passed, N failed". Exit code 0 only when nothing failed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

long=false
long_run=false
crash_run=false
only=""
while [[ $# -gt 0 ]]; do
    case "$1" in
        --long) long=true ;;
        --long-run) long_run=true ;;
        --crash-run) crash_run=true ;;
        --only)
            [[ $# -ge 2 ]] || fail "--only needs a name: a directory of crates/ or tests/"
            only="$2"
            shift
            ;;
        --help)
            show_help "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) fail "unknown option '$1': see scripts/test.sh --help" ;;
    esac
    shift
done
if [[ -n "$only" && ! -d "$REPO_DIR/crates/$only" && ! -d "$REPO_DIR/tests/$only" ]]; then
    fail "no package '$only' in crates/ or tests/"
fi

passed=0
failed=0
log="$(mktemp)"
trap 'rm --force "$log"' EXIT

# Runs cargo test, shows it, and adds its lines "test result: ok. N passed; N failed; ..." to the sums.
run_tests() {
    local what="$1"
    shift
    say "tests: $what"
    local status=0
    (cd "$REPO_DIR" && cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$log" || status=$?
    local step_passed step_failed
    step_passed="$(awk '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ /^passed/) sum += $(i - 1) } END { print sum + 0 }' "$log")"
    step_failed="$(awk '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ /^failed/) sum += $(i - 1) } END { print sum + 0 }' "$log")"
    # A build that breaks, or a test process that dies, has no line of its own.
    if [[ "$status" -ne 0 && "$step_failed" -eq 0 ]]; then step_failed=1; fi
    passed=$((passed + step_passed))
    failed=$((failed + step_failed))
}

contains() {
    local wanted="$1" item
    shift
    for item in "$@"; do [[ "$item" == "$wanted" ]] && return 0; done
    return 1
}

test_pure() {
    select_packages "$@"
    run_tests "without RocksDB (dev profile)" "${SELECTED[@]}"
}

test_engine() {
    select_packages "$@"
    run_tests "with RocksDB (release)" --release "${SELECTED[@]}"
}

# What the build that plays the next version adds: the unit tests of the crates that have it.
# All of them are selected, so that what others wrote has the features it was built with before.
test_next() {
    select_packages "${PURE_CRATES[@]}"
    run_tests "the next version" --lib "${SELECTED[@]}" --features warren-codec/next-version -- version::
}

test_cluster() {
    local name
    for name in "$@"; do
        local arguments=(--test-threads=1)
        if [[ "$long" == true ]]; then arguments+=(--include-ignored); fi
        run_tests "tests/$name on real processes" --package "warren-$name" -- "${arguments[@]}"
    done
}

# A hundred times what is run without --long: the stores' tests read WARREN_LONG, those of processes WARREN_FAULTS (20 without).
test_crashes() {
    export WARREN_LONG=1 WARREN_FAULTS="${WARREN_FAULTS:-2000}"
    select_packages "${ENGINE_CRATES[@]}"
    run_tests "crashes of the stores, 100 times" --release --lib "${SELECTED[@]}" -- log:: state::
    build_release
    run_tests "$WARREN_FAULTS faults of processes" --package warren-cluster --test faults -- \
        --ignored --nocapture --exact two_hundred_faults_lose_and_double_nothing
}

ensure_tools
if [[ "$long" == true ]]; then export WARREN_LONG=1; fi
mapfile -t cluster < <(cluster_packages)

if [[ "$long_run" == true ]]; then
    build_release
    run_tests "every fault in turn" --package warren-cluster --test long -- --ignored --nocapture
elif [[ "$crash_run" == true ]]; then
    test_crashes
elif [[ -z "$only" ]]; then
    run_tests "source rules" --package warren-tidy
    test_pure "${PURE_CRATES[@]}"
    test_engine "${ENGINE_CRATES[@]}"
    test_next
    if [[ "${#cluster[@]}" -gt 0 ]]; then
        build_next
        build_release
        test_cluster "${cluster[@]}"
    fi
elif contains "$only" "${ENGINE_CRATES[@]}"; then
    # proto is selected with it so that RocksDB's build script sees the same features as in every other build.
    test_engine "$only" proto
elif contains "$only" "${cluster[@]}"; then
    if [[ "$only" == cluster ]]; then build_next; fi
    build_release
    test_cluster "$only"
elif [[ "$only" == tidy ]]; then
    run_tests "source rules" --package warren-tidy
else
    test_pure "$only"
fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[[ "$failed" -eq 0 && "$passed" -gt 0 ]]
