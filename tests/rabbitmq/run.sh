#!/usr/bin/env bash
# RabbitMQ's shovel and federation plugins against a running RabbitMQ and running Warren nodes (run.py says what it needs); installs pika into
# a virtual environment first, if it is not there.
#   tests/rabbitmq/run.sh --rabbit 5691 --ctl "sudo rabbitmqctl" --warren 5672,5673,5674
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source-path=SCRIPTDIR source=../pika/venv.sh
source "${here}/../pika/venv.sh"
exec "${python}" "${here}/run.py" "$@"
