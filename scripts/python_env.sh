#!/usr/bin/env bash
# A virtual environment under build/ with what a requirements file lists. python_env.sh [NAME REQUIREMENTS];
# default: build/venv, of the integration tests (real OpenAI client, gRPC).
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/${1:-venv}
requirements=${2:-tests/integration/requirements.txt}
# What a file includes counts, too.
wanted=$(cat "$requirements" tests/integration/requirements.txt)
stamp=$venv/.requirements
if [ -f "$stamp" ] && [ "$wanted" = "$(cat "$stamp")" ]; then
  exit 0
fi
mkdir -p build
/usr/bin/python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
printf '%s\n' "$wanted" > "$stamp"
