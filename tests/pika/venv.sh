# Sets `python` to one that has pika, in a virtual environment that is made if it is not there. Sourced, not run.
# shellcheck shell=bash
venv="${WARREN_PIKA_VENV:-$(dirname "${BASH_SOURCE[0]}")/../../target/pika-venv}"
python="${venv}/bin/python"
if [[ ! -x "${python}" ]]; then
  python3 -m venv "${venv}"
fi
if ! "${python}" -c 'import pika' 2>/dev/null; then
  "${python}" -m pip install --quiet 'pika==1.3.2'
fi
