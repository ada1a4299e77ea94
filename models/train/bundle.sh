#!/usr/bin/env bash
# models/train/bundle.sh EXPORTED_DIR [BUILD_DIR]: makes an exported folder the bundled model.
#
# Copies it to models/quire-6m (whose README.md stays), writes what is derived from weights and tokenizer
# (tokenizer.json, golden.json, hf_logits.json), and runs the tests that depend on them in BUILD_DIR, if it
# is given. PYTHON names an interpreter with numpy, sentencepiece, protobuf, torch and transformers.
set -euo pipefail
exported=$(realpath "${1:?the folder that export.py wrote}")
build=${2:+$(realpath "$2")}
python=${PYTHON:-python3}
cd "$(dirname "$0")/../.."
model=models/quire-6m

"$python" -c 'import google.protobuf, numpy, sentencepiece, torch, transformers'
for file in config.json model.safetensors tokenizer.model tokenizer_config.json; do
  [ "$exported/$file" -ef "$model/$file" ] || cp "$exported/$file" "$model/$file"
done
"$python" models/tools/make_tokenizer_json.py "$model"
"$python" models/tools/make_golden.py "$model"
"$python" models/tools/make_hf_golden.py "$model"
"$python" - "$model" <<'CHECK'
import json
import pathlib
import sys

cases = json.loads((pathlib.Path(sys.argv[1]) / "golden.json").read_text(encoding="utf-8"))["cases"]
for case in cases:
    if not case["answer"].startswith(case["expected_answer"]):
        sys.exit(f"{case['name']}: {case['answer']} instead of {case['expected_answer']}")
    if case["smallest_margin"] < 2:
        sys.exit(f"{case['name']}: a margin of {case['smallest_margin']} is nearly a coin toss")
CHECK
if [ -n "$build" ]; then
  cmake --build "$build"
  ctest --test-dir "$build" --parallel "$(nproc)" --output-on-failure -R '^(models|engine|integration|bench):'
fi
