#!/usr/bin/env bash
# Runs the pika programs against running nodes; installs pika into a virtual environment first, if it is not there.
#   tests/pika/run.sh --port 5672,5673,5674
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source-path=SCRIPTDIR source=venv.sh
source "${here}/venv.sh"
exec "${python}" "${here}/run.py" "$@"
