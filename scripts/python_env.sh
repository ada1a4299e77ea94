#!/usr/bin/env bash
# The virtual environment of the integration tests (real OpenAI client, gRPC), under build/venv.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/integration/requirements.txt
stamp=build/venv/.requirements
if [ -f "$stamp" ] && cmp -s "$requirements" "$stamp"; then
  exit 0
fi
mkdir -p build
/usr/bin/python3 -m venv build/venv
build/venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"
