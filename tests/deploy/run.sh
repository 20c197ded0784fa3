#!/usr/bin/env bash
# Runs one of the programs beside it, in a virtual environment that has what it needs.
#   tests/deploy/run.sh containers|manifests|pods
# WARREN_BIN: the binary to play pods with. WARREN_DEPLOY_DIR: where the environment and what pods leave behind go.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
scratch="${WARREN_DEPLOY_DIR:-${here}/../../target/deploy}"
mkdir -p "${scratch}"
venv="${scratch}/venv"
if [[ ! -x "${venv}/bin/python" ]]; then
  python3 -m venv "${venv}"
fi
if ! "${venv}/bin/python" -c 'import yaml, kubernetes_validate' 2>/dev/null; then
  "${venv}/bin/python" -m pip install --quiet 'pyyaml>=6,<7' 'kubernetes-validate==1.35.0'
fi
case "${1:-}" in
  containers | manifests) exec "${venv}/bin/python" "${here}/$1.py" "${scratch}" ;;
  pods)
    if [[ "$(id -u)" -ne 0 ]]; then
      echo "skipped: pods are played in namespaces, which needs root"
      exit 0
    fi
    for tool in ip unshare nsenter setpriv mount; do
      if ! command -v "${tool}" >/dev/null; then
        echo "skipped: pods are played in namespaces, which needs ${tool}"
        exit 0
      fi
    done
    if ! unshare --net --mount --uts true 2>/dev/null; then
      echo "skipped: this machine gives no namespaces to its root"
      exit 0
    fi
    # Everything that is made in there goes with it.
    exec unshare --net --mount --uts --pid --fork --kill-child --mount-proc \
      "${venv}/bin/python" "${here}/pods.py" "${scratch}"
    ;;
  *)
    echo "usage: $0 containers|manifests|pods" >&2
    exit 2
    ;;
esac
