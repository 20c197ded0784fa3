#!/usr/bin/env bash
# Mends what a program can mend: formatting, and the clippy findings that have one answer. Twin of scripts/check.sh.
#
# usage: scripts/fix.sh [--help]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
    "") ;;
    --help)
        show_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) fail "unknown option '$1': see scripts/fix.sh --help" ;;
esac

cd "$REPO_DIR"
ensure_tools
select_packages "${PURE_CRATES[@]}"
SELECTED+=(--package warren-tidy)
say "clippy --fix, crates without RocksDB"
cargo clippy --fix --allow-dirty --allow-staged --all-targets "${SELECTED[@]}"
select_packages "${ENGINE_CRATES[@]}"
say "clippy --fix, crates with RocksDB"
cargo clippy --fix --allow-dirty --allow-staged --release --all-targets "${SELECTED[@]}"
say "formatting"
cargo fmt --all
say "done: look at the difference, then run scripts/check.sh"
