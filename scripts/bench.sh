#!/usr/bin/env bash
# Measures the local cluster with `warren perf` and prints the figures, one JSON object per mode.
#
# usage: scripts/bench.sh [--seconds N] [--size BYTES] [--out FILE] [--help]
#   --seconds N   length of each mode (default 15)
#   --size BYTES  body size (default 1024)
#   --out FILE    add the JSON lines to this file too
#
# BENCH_FLOOR: a program that measures the bare floor (write, fdatasync on two of three) as `PROGRAM --size B
# --inflight N --seconds S`; when set it runs beside each mode, in the same minute, and its line is printed too.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=15
size=1024
out=""
while [[ $# -gt 0 ]]; do
    case "$1" in
        --help)
            show_help "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --seconds | --size | --out)
            [[ $# -ge 2 ]] || fail "$1 needs a value"
            case "$1" in
                --seconds) seconds="$2" ;;
                --size) size="$2" ;;
                --out) out="$2" ;;
            esac
            shift
            ;;
        *) fail "unknown option '$1': see scripts/bench.sh --help" ;;
    esac
    shift
done

servers="127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"
local_dir="${WARREN_LOCAL_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/warren/local}"

# Process ids of the nodes, comma separated, for the CPU figures.
node_pids() { cat "$local_dir"/node-*/pid | paste --serial --delimiters=,; }

keep() {
    if [[ -n "$out" ]]; then tee --append "$out"; else cat; fi
}

mode() {
    local what="$1" inflight="$2"
    shift 2
    say "$what"
    "$WARREN_BIN" perf --server "$servers" --seconds "$seconds" --size "$size" --window "$inflight" \
        --pids "$(node_pids)" "$@" | tail --lines=1 | keep
    if [[ -n "${BENCH_FLOOR:-}" ]]; then
        "$BENCH_FLOOR" --size "$size" --inflight "$inflight" --seconds 5 | tail --lines=1 | keep
    fi
}

ensure_tools
build_release
"$REPO_DIR/scripts/local-cluster.sh" up
mode "one queue, publish and consume, window 1000, prefetch 200" 1000 --publishers 1 --consumers 1 --queues 1 --prefetch 200 --verify
mode "ten queues, publish and consume, window 1000 together" 1000 --publishers 10 --consumers 10 --queues 10 --prefetch 200 --verify
mode "one queue, one message in flight" 1 --publishers 1 --consumers 1 --queues 1 --prefetch 1
