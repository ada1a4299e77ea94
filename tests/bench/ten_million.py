#!/usr/bin/env python3
"""Starts the server and asks it about one document of ten million tokens: time, speed and memory.

    tests/bench/ten_million.py --quire build/release/server/quire --output ten_million.json

Standard library only; the document is the demo's (scripts/demo_facts.py), repeated, with facts
planted in it. Everything that the server was started with stands in the output.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
import demo_client  # noqa: E402
import demo_facts  # noqa: E402

TOKENS = 10 * 1024 * 1024


def server_command(args):
    return [args.quire, "--model", args.model, "--port", str(args.port), "--no-grpc",
            "--threads", str(args.threads),
            "--max-model-len", str(args.tokens), "--beyond-model-len",
            "--kv-dtype", args.kv_dtype, "--kv-cache-memory", args.kv_cache_memory,
            "--moba-schedule", args.moba_schedule,
            "--max-num-seqs", "8", "--max-step-tokens", str(args.step_tokens),
            "--max-body-size", "256MiB", "--max-queued-tokens", str(2 * args.tokens)]


def memory_of(pid):
    """Resident bytes of a process, now and at most."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[key].split()[0]) * 1024
            for name, key in (("resident_bytes", "VmRSS"), ("peak_bytes", "VmHWM"))}


def wait_until_ready(client, server):
    while True:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            client.get("/v1/models")
            return
        except OSError:
            time.sleep(0.2)


def ask(client, server, document, fact, on_progress):
    answer = client.ask(document, fact.question(), on_progress)
    demo_client.show(answer, "   [right]" if fact.is_answered_by(answer.text)
                     else f"   [wrong: {fact.value}]")
    memory = memory_of(server.pid)
    print(f"  memory   {memory['peak_bytes'] / 2**30:.2f} GiB at most", flush=True)
    return {"question": fact.question(), "answer": answer.text, "value": fact.value,
            "is_right": fact.is_answered_by(answer.text), "usage": answer.usage,
            "first_token_seconds": answer.first_token_s,
            "prefill_tokens_per_second": answer.prefill_tokens_per_s,
            "decode_tokens_per_second": answer.decode_tokens_per_s, **memory}


class Progress:
    """Prints, and keeps, the seconds at every twentieth of the prompt."""

    def __init__(self):
        self.start, self.points, self.next_part = time.monotonic(), [], 0

    def __call__(self, processed, total):
        if processed * 20 < self.next_part * total:
            return
        self.next_part = processed * 20 // max(total, 1) + 1
        seconds = time.monotonic() - self.start
        self.points.append({"tokens": processed, "seconds": seconds})
        print(f"  {seconds:8.1f} s  {processed:,} of {total:,} tokens", flush=True)


def run(args, server):
    client = demo_client.Client(f"http://127.0.0.1:{args.port}")
    start = time.monotonic()
    wait_until_ready(client, server)
    result = {"command": server_command(args), "start_seconds": time.monotonic() - start,
              "memory_at_start": memory_of(server.pid)}
    facts = demo_facts.make_facts(args.questions, args.seed)
    corpus = demo_facts.load_corpus(args.cache_dir)
    num_tokens = args.tokens - demo_client.QUESTION_RESERVE_TOKENS
    document = demo_client.document_of(client, corpus, facts, num_tokens, args.seed)
    result["document_bytes"] = len(document.encode())
    print(f"document: {len(document) / 1e6:.1f} MB", flush=True)
    progress = Progress()
    result["answers"] = [ask(client, server, document, fact,
                             progress if number == 0 else demo_client.skip)
                         for number, fact in enumerate(facts)]
    result["progress"] = progress.points
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quire", default=str(REPOSITORY / "build/release/server/quire"))
    parser.add_argument("--model", default=str(REPOSITORY / "models/quire-4m"))
    parser.add_argument("--tokens", type=int, default=TOKENS, help="prompt and answer together")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--step-tokens", type=int, default=8192)
    parser.add_argument("--kv-dtype", default="int8")
    parser.add_argument("--kv-cache-memory", default="11GiB")
    parser.add_argument("--moba-schedule", default="1048576:4,4194304:16:4")
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--cache-dir", default=str(REPOSITORY / "build/demo"))
    parser.add_argument("--output", help="file for the results as JSON")
    args = parser.parse_args()
    with subprocess.Popen(server_command(args)) as server:
        try:
            result = run(args, server)
        finally:
            server.send_signal(signal.SIGTERM)
    if args.output:
        pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
