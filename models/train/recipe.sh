#!/usr/bin/env bash
# models/train/recipe.sh WORK_DIR MODEL_DIR: data, tokenizer, training and export. Run it again to resume.
set -euo pipefail
work=${1:?a folder for data and checkpoints}
model=${2:?the folder to export to}
here=$(dirname "$0")

export OMP_NUM_THREADS=1
# Freed memory stays with the process: fresh pages for every tensor cost half of the time. glibc can keep it
# too, but its heap then grows to four times the size.
jemalloc=$(/sbin/ldconfig -p | awk '/libjemalloc.so.2/ { print $NF; exit }')
if [ -n "$jemalloc" ]; then
  export LD_PRELOAD=$jemalloc MALLOC_CONF=dirty_decay_ms:20000,muzzy_decay_ms:20000,narenas:1
else
  export MALLOC_ARENA_MAX=1 MALLOC_TOP_PAD_=268435456
  export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184
fi

[ -e "$work/data/held_out.txt" ] || python3 "$here/corpus.py" --out "$work/data"
[ -e "$work/data/held_out.npy" ] || python3 "$here/tokenizer.py" --data "$work/data"
python3 "$here/train.py" --data "$work/data" --out "$work/model.pt" --processes "${PROCESSES:-2}"
python3 "$here/export.py" --checkpoint "$work/model-near.pt" "$work/model.pt" --data "$work/data" \
  --out "$model"
