#!/usr/bin/env bash
# Builds and runs the lapin programs against running nodes.
#   tests/lapin/run.sh --port 5672,5673,5674 [--failover]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${here}/../../target}/lapin"
exec cargo run --locked --quiet --manifest-path "${here}/client/Cargo.toml" -- "$@"
