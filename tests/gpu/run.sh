#!/usr/bin/env bash
# Everything that only a GPU can tell, in one call, from a folder made by tests/gpu/bundle.sh (no
# package registry, no compiler needed): kernel tests against the reference, golden prompts,
# compute-sanitizer, quire-bench. One JSON file and the logs in RESULTS.
#   tests/gpu/run.sh [RESULTS]                default: results
#   QUIRE_GPU_PARTS="kernels golden"          only these parts: kernels golden sanitizer bench peers
#   QUIRE_GPU_SHAPE=bundled                   the bench on this shape only
#   QUIRE_GPU_PEAKS="798000 3000"             GFLOP/s and GB/s for the bench's floor; default: measured
#   QUIRE_GPU_PART_SECONDS=1800               after which a part has failed
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

results=${1:-results}
parts=${QUIRE_GPU_PARTS:-kernels golden sanitizer bench peers}
device=${QUIRE_GPU_DEVICE:-cuda:0}
mkdir -p "$results"
# cuBLASLt may be a Python package of its own.
python_cublas=$(python3 -c 'import nvidia.cublas as p; print(p.__path__[0] + "/lib")' 2>/dev/null)
own_libraries="$PWD/lib:${python_cublas:+$python_cublas:}/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$PATH:/usr/local/cuda/bin"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}

failed=0
# part NAME COMMAND…: runs it, keeps its output (NAME.log), its messages (NAME.err) and its exit status.
part() {
  local name=$1 begin end status=0
  shift
  begin=$(date +%s)
  timeout --kill-after=30 "${QUIRE_GPU_PART_SECONDS:-1800}" "$@" \
    >"$results/$name.log" 2>"$results/$name.err" || status=$?
  end=$(date +%s)
  echo "$name $status $((end - begin))" >>"$results/parts"
  echo "$name: $([ "$status" = 0 ] && echo ok || echo "FAILED ($status)"), $((end - begin)) s"
  [ "$status" = 0 ] || { failed=1; tail -qn 30 "$results/$name.log" "$results/$name.err"; }
  # Whatever ends this run, what is done is told.
  python3 tests/gpu/collect.py "$results" commit >"$results/collected" || failed=1
}
# own NAME COMMAND…: the same for a program of the bundle.
own() {
  local name=$1
  shift
  part "$name" env LD_LIBRARY_PATH="$own_libraries" "$@"
}
wants() { [[ " $parts " == *" $1 "* ]]; }

: >"$results/parts"
nvidia-smi --id="${device#cuda:}" --query-gpu=name,driver_version,memory.total --format=csv,noheader \
  >"$results/device" 2>&1 ||
  echo "unknown, unknown, unknown" >"$results/device"

if wants kernels; then
  own kernels QUIRE_TEST_BACKENDS="reference,$device" bin/quire_kernels_tests --warn NoTests
fi
if wants golden; then
  own golden QUIRE_TEST_BACKENDS="$device" bin/quire_models_tests --warn NoTests \
    "every backend*,any chunking*,the golden prompts*,a GGUF file gives*,a model in blocks gives*,\
a folder in FP8 gives*,a model with windows*,each digest*"
fi
if wants sanitizer; then
  # The tests of the most intricate kernels; a checked kernel is a hundred times slower.
  for tool in memcheck racecheck synccheck; do
    command -v compute-sanitizer >/dev/null || { echo "$tool: no compute-sanitizer, left out"; continue; }
    own "$tool" QUIRE_TEST_BACKENDS="$device" compute-sanitizer --tool "$tool" \
      --error-exitcode 9 bin/quire_kernels_tests --warn NoTests \
      "append_kv*,seal_*,moba_gate*,moba_attention*,schedule: up to*,MoBA: where*,full_attention: \
agrees*,matmul: NaN*,matmul: int8 products are*,matmul: every code of FP8*,sample*,rms_norm*"
  done
fi
if wants bench; then
  for shape in ${QUIRE_GPU_SHAPE:-bundled llama-3.1-8b}; do
    for setting in "full" "moba 4096 12" "moba 2048 3" "moba 512 3" "moba 128 8" \
      "moba 512 3 --weights int8 --kv-dtype int8"; do
      read -r attention block_size top_k more <<<"$setting"
      flags=(--backend "$device" --shape "$shape" --attention "$attention" --output json)
      if [ -n "${QUIRE_GPU_PEAKS:-}" ]; then
        read -r gflops gbps <<<"$QUIRE_GPU_PEAKS"
        flags+=(--peak-gflops "$gflops" --peak-gbps "$gbps")
      fi
      # shellcheck disable=SC2206  # words of their own
      [ "$attention" = full ] || flags+=(--block-size "$block_size" --top-k "$top_k" $more)
      name="$shape-$(tr -s ' -' '-' <<<"$setting")"
      own "prefill-$name" bin/quire-bench prefill "${flags[@]}" --tokens 8192 --step-tokens 8192 \
        --depth 0,32768,131072
      # Eight contexts of 131,072 tokens of the large shape are more than 128 GiB.
      own "decode-$name" bin/quire-bench decode "${flags[@]}" --depth 0,32768,131072
      own "decode-one-by-one-$name" bin/quire-bench decode "${flags[@]}" --no-decode-graphs \
        --depth 0,32768
      own "decode-batch-$name" bin/quire-bench decode "${flags[@]}" --batch 8 --depth 0,8192
    done
  done
fi
if wants peers; then
  # Attention alone, of whole prompts and of tokens behind them: Quire's share of all layers, and
  # PyTorch's of one layer, where the machine has it.
  for setting in "full" "moba 4096 12" "moba 2048 3" "moba 512 3" "moba 128 8"; do
    read -r attention block_size top_k <<<"$setting"
    flags=(--backend "$device" --shape llama-3.1-8b --attention "$attention" --output json --op-times)
    [ "$attention" = full ] || flags+=(--block-size "$block_size" --top-k "$top_k")
    name="attention-$(tr -s ' ' '-' <<<"$setting")"
    own "prefill-$name" bin/quire-bench prefill "${flags[@]}" --whole --step-tokens 8192 \
      --depth 8192,32768,131072
    own "decode-$name" bin/quire-bench decode "${flags[@]}" --depth 8192,32768,131072
  done
  part peers python3 tests/gpu/peers.py --device "$device"
fi
cat "$results/collected"
exit "$failed"
