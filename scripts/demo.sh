#!/usr/bin/env bash
# From a fresh Debian 12 to an answer over a long document, through HTTP.
#
#   scripts/demo.sh                                   a million tokens with twelve planted facts; where
#                                                     memory is short, the largest power of two that fits
#   scripts/demo.sh --tokens N                        another length
#   scripts/demo.sh --document FILE --question "…"    your own document and question
#   scripts/demo.sh --serve                           leave the server running afterwards
#
# QUIRE_PORT chooses the HTTP port (default 8000; gRPC listens on the next one), QUIRE_ARGS adds
# server flags.
set -euo pipefail
cd "$(dirname "$0")/.."

serve=no
tokens=
has_document=no
client_args=()
while [ "$#" -gt 0 ]; do
  case "$1" in
    --serve) serve=yes ;;
    --help | -h) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    --document)
      [ -r "${2:-}" ] || { echo "cannot read the document '${2:-}'" >&2; exit 2; }
      has_document=yes
      client_args+=(--document "$2"); shift ;;
    --tokens | --question | --facts | --seed)
      [ "$#" -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
      if [ "$1" = --tokens ]; then
        case "$2" in '' | *[!0-9]*) echo "--tokens needs a number" >&2; exit 2 ;; esac
        tokens=$2
      fi
      client_args+=("$1" "$2"); shift ;;
    *) echo "unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done

scripts/install_packages.sh
scripts/build.sh release quire

# Weights, scratch and the text take 256 MiB; the KV cache takes 2 KiB a token, and an eighth more
# for its summaries and for the questions.
kv_cache_mib() { echo $((64 + $1 * 9 / 4096)); }
needed_mib() { echo $((256 + $(kv_cache_mib "$1"))); }
free_mib() {
  local free limit used
  free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  used=$(cat /sys/fs/cgroup/memory.current 2>/dev/null || echo 0)
  if [ "$limit" != max ] && [ $(((limit - used) / 1048576)) -lt "$free" ]; then
    free=$(((limit - used) / 1048576))
  fi
  echo "$free"
}

if [ "$has_document" = no ]; then
  if [ -z "$tokens" ]; then
    tokens=1048576
    while [ "$tokens" -gt 4096 ] && [ "$(needed_mib "$tokens")" -gt "$(free_mib)" ]; do
      tokens=$((tokens / 2))
    done
    client_args+=(--tokens "$tokens")
  fi
  echo "a document of $tokens tokens needs $(needed_mib "$tokens") MiB of memory; $(free_mib) MiB are free"
  export QUIRE_KV_CACHE_MEMORY=${QUIRE_KV_CACHE_MEMORY:-$(kv_cache_mib "$tokens")MiB}
fi

port=${QUIRE_PORT:-8000}
log=build/demo/server.log
mkdir -p build/demo
# shellcheck disable=SC2086
build/release/server/quire --port "$port" --grpc-port "$((port + 1))" ${QUIRE_ARGS:-} \
  >"$log" 2>&1 &
server=$!
stop_server() {
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
}
trap stop_server EXIT

until python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.2
done
cat "$log"

python3 scripts/demo_client.py --url "http://127.0.0.1:$port" "${client_args[@]}"
awk '/VmHWM/ { printf "server peak memory: %.2f GiB\n", $2 / 1048576 }' "/proc/$server/status"

if [ "$serve" = yes ]; then
  trap - EXIT
  disown "$server"
  echo "the server keeps running at http://127.0.0.1:$port (process $server; kill $server stops it)"
fi
