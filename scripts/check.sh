#!/usr/bin/env bash
# The one gate before a change goes in. Writes nothing into the sources; scripts/fix.sh is its writing twin.
#
# usage: scripts/check.sh [--lint] [--help]
#   --lint   formatting and clippy only
#
# Steps: fmt, clippy, tests (scripts/test.sh), cargo doc; cargo deny and buf where they are installed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lint_only=false
while [[ $# -gt 0 ]]; do
    case "$1" in
        --lint) lint_only=true ;;
        --help)
            show_help "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) fail "unknown option '$1': see scripts/check.sh --help" ;;
    esac
    shift
done

cd "$REPO_DIR"
broken=()
step() {
    local name="$1"
    shift
    say "$name"
    "$@" || broken+=("$name")
}

lint_pure() {
    select_packages "${PURE_CRATES[@]}"
    local name
    for name in $(cluster_packages) tidy; do SELECTED+=(--package "warren-$name"); done
    cargo clippy --locked --no-deps --all-targets "${SELECTED[@]}" -- --deny warnings
}

lint_engine() {
    select_packages "${ENGINE_CRATES[@]}"
    cargo clippy --locked --no-deps --release --all-targets "${SELECTED[@]}" -- --deny warnings
}

document() {
    export RUSTDOCFLAGS="--deny warnings"
    select_packages "${PURE_CRATES[@]}"
    cargo doc --locked --no-deps "${SELECTED[@]}" || return 1
    select_packages "${ENGINE_CRATES[@]}"
    cargo doc --locked --no-deps --release "${SELECTED[@]}"
}

ensure_tools
step "formatting" cargo fmt --all --check
step "clippy, crates without RocksDB" lint_pure
step "clippy, crates with RocksDB" lint_engine
if [[ "$lint_only" == false ]]; then
    step "tests" "$REPO_DIR/scripts/test.sh"
    step "documentation" document
    if have shellcheck; then
        step "shellcheck" shellcheck --external-sources "$REPO_DIR"/scripts/*.sh "$REPO_DIR/.ci/run"
    else
        warn "shellcheck is not installed: scripts not checked"
    fi
    if cargo deny --version >/dev/null 2>&1; then
        step "dependencies" cargo deny --locked check
    else
        warn "cargo-deny is not installed: licences and advisories not checked"
    fi
    if have buf; then
        step "protocol files" buf lint proto
    else
        warn "buf is not installed: protocol files not linted"
    fi
fi

if [[ "${#broken[@]}" -gt 0 ]]; then
    fail "not ready: ${broken[*]} (scripts/fix.sh mends formatting and what clippy can mend)"
fi
say "all checks passed"
