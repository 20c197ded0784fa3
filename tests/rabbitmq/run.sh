#!/usr/bin/env bash
# RabbitMQ's shovel and federation plugins against a running RabbitMQ and running Warren nodes (run.py says what it needs); installs pika into
# a virtual environment first, if it is not there.
#   tests/rabbitmq/run.sh --rabbit 5691 --ctl "sudo rabbitmqctl" --warren 5672,5673,5674
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${WARREN_PIKA_VENV:-${here}/../../target/pika-venv}"
if [[ ! -x "${venv}/bin/python" ]]; then
  python3 -m venv "${venv}"
fi
if ! "${venv}/bin/python" -c 'import pika' 2>/dev/null; then
  "${venv}/bin/python" -m pip install --quiet 'pika==1.3.2'
fi
exec "${venv}/bin/python" "${here}/run.py" "$@"
