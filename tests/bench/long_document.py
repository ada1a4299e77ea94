#!/usr/bin/env python3
"""Starts the server and asks it, through HTTP, about one document of 128K to ten million tokens.

    tests/bench/long_document.py 128k --rounds 5 --out tests/bench/results
    tests/bench/long_document.py million --out tests/bench/results
    tests/bench/long_document.py ten-million --out tests/bench/results

Standard library only; the document is the demo's (scripts/demo_facts.py), repeated, with facts
planted in it. Figures go to OUT/SETUP.json, with everything that the server was started with;
`--report` prints the table of what is there.
"""

import argparse
import datetime
import json
import pathlib
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
import demo_client  # noqa: E402
import demo_facts  # noqa: E402

SETUPS = {
    # tokens of prompt and answer together, and what the server is given for them
    "128k": (128 << 10, "--kv-cache-memory 320MiB"),
    "million": (1 << 20, "--kv-cache-memory 2304MiB"),
    "ten-million": (10 << 20, "--kv-cache-memory 11GiB --kv-dtype int8 --beyond-model-len"
                              " --moba-schedule 1048576:4,4194304:16:4 --max-body-size 256MiB"),
}


def server_command(args):
    tokens, flags = SETUPS[args.setup]
    return [args.quire, "--model", args.model, "--port", str(args.port), "--no-grpc",
            "--threads", str(args.threads), "--max-model-len", str(tokens), "--max-num-seqs", "8",
            "--max-queued-tokens", str(2 * tokens), *flags.split(), *shlex.split(args.quire_flags)]


def memory_of(pid):
    """Resident bytes of a process, now and at most."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[key].split()[0]) * 1024
            for name, key in (("resident_bytes", "VmRSS"), ("peak_bytes", "VmHWM"))}


def kv_bytes_of(client):
    """Bytes of the blocks that hold something."""
    text = client.request("GET", "/metrics").read().decode()
    gauges = {name: float(value)
              for name, value in re.findall(r"^(quire_\w+)\{[^}]*\} ([0-9.e+]+)$", text, re.M)}
    held = 1 - gauges["quire_blocks_free"] / gauges["quire_blocks"]
    return round(gauges["quire_kv_cache_bytes"] * held)


def wait_until_ready(client, server):
    while True:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            client.get("/v1/models")
            return
        except OSError:
            time.sleep(0.05)


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


def run(args, server, seed):
    client = demo_client.Client(f"http://127.0.0.1:{args.port}")
    start = time.monotonic()
    wait_until_ready(client, server)
    result = {"seed": seed, "start_seconds": time.monotonic() - start,
              "memory_at_start": memory_of(server.pid)}
    facts = demo_facts.make_facts(args.questions, seed)
    corpus = demo_facts.load_corpus(args.cache_dir)
    num_tokens = SETUPS[args.setup][0] - demo_client.QUESTION_RESERVE_TOKENS
    document = demo_client.document_of(client, corpus, facts, num_tokens, seed)
    result["document_bytes"] = len(document.encode())
    print(f"document: {len(document) / 1e6:.1f} MB", flush=True)
    progress = Progress()
    result["answers"] = [ask(client, server, document, fact,
                             progress if number == 0 else demo_client.skip)
                         for number, fact in enumerate(facts)]
    result["progress"] = progress.points
    result["kv_bytes"] = kv_bytes_of(client)
    return result


def measure(args):
    command = server_command(args)
    words = ["--model", "models/" + pathlib.Path(args.model).name, *command[3:]]
    cpus = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "--short=12", "HEAD"],
                            capture_output=True, text=True, check=True)
    runs = []
    for number in range(args.rounds):
        with subprocess.Popen([*shlex.split(args.server_with), *command]) as server:
            try:
                runs.append(run(args, server, args.seed + number))
            finally:
                server.send_signal(signal.SIGTERM)
    return {"flags": " ".join(words), "commit": commit.stdout.strip(), "cpu": cpus[0],
            "threads": args.threads, "date": datetime.date.today().isoformat(), "runs": runs}


def spread(values, form):
    text = form.format(statistics.median(values))
    return f"{text} ({form.format(min(values))}–{form.format(max(values))})" if values[1:] else text


def report(out):
    """Tables in Markdown, one per setup that was measured."""
    text = ""
    for setup in SETUPS:
        path = out / f"{setup}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        runs = result["runs"]
        answers = [answer for r in runs for answer in r["answers"]]
        later = [answer for r in runs for answer in r["answers"][1:]]
        firsts = [r["answers"][0] for r in runs]
        tokens = firsts[0]["usage"]["prompt_tokens"]
        cached = min((a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in later),
                     default=0)
        shares = [r["answers"][-1]["peak_bytes"] / r["kv_bytes"] for r in runs]
        rows = {
            f"first token of {tokens:,}, cold, s":
                spread([a["first_token_seconds"] for a in firsts], "{:,.1f}"),
            "prefill, tok/s": spread([a["prefill_tokens_per_second"] for a in firsts], "{:,.0f}"),
            f"first token of later questions ({cached:,} cached), ms":
                spread([1e3 * a["first_token_seconds"] for a in later], "{:,.0f}"),
            "decode, tok/s": spread([a["decode_tokens_per_second"] for a in answers], "{:,.0f}"),
            "peak memory of the server, GiB":
                spread([r["answers"][-1]["peak_bytes"] / 2**30 for r in runs], "{:.2f}"),
            "that over the KV cache in use": spread(shares, "{:.2f}×"),
            "right answers": f"{sum(a['is_right'] for a in answers)} of {len(answers)}",
        }
        text += "\n{cpu}, {threads} threads, Quire {commit}, {date}; `{flags}`.\n".format(**result)
        text += f"\n| {setup} | median ({len(runs)} starts) |\n|---|---|\n"
        text += "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setup", choices=SETUPS, nargs="?")
    parser.add_argument("--quire", default=str(REPOSITORY / "build/release/server/quire"))
    parser.add_argument("--quire-flags", default="", help="more settings of the server")
    parser.add_argument("--model", default=str(REPOSITORY / "models/quire-6m"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--server-with", default="taskset -c 0,1")
    parser.add_argument("--rounds", type=int, default=1, help="starts, each with its own facts")
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--cache-dir", default=str(REPOSITORY / "build/demo"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--report", action="store_true", help="only print the tables")
    args = parser.parse_args()
    if not args.report:
        if not args.setup:
            parser.error(f"which one: {', '.join(SETUPS)}")
        args.out.mkdir(parents=True, exist_ok=True)  # before the minutes that it takes
        result = json.dumps(measure(args), indent=1, ensure_ascii=False)
        (args.out / f"{args.setup}.json").write_text(result + "\n", encoding="utf-8")
    print(report(args.out), end="")


if __name__ == "__main__":
    main()
