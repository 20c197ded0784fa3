#!/usr/bin/env bash
# Runs the amqplib programs against running nodes; installs amqplib first, if it is not there.
#   tests/amqplib/run.sh --port 5672,5673,5674 [--failover]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
home="${WARREN_AMQPLIB_DIR:-${here}/../../target/amqplib}"
mkdir -p "${home}"
cp "${here}"/package.json "${here}"/*.mjs "${home}/"
if [[ ! -d "${home}/node_modules/amqplib" ]]; then
  (cd "${home}" && npm install --no-audit --no-fund --silent)
fi
exec node "${home}/run.mjs" "$@"
