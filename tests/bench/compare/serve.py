#!/usr/bin/env python3
"""Quire's server against llama-server and ik_llama.cpp's, as their clients see them.

    serve.py --quire build/release --peer llama.cpp=BIN --peer ik_llama.cpp=BIN --models DIR

Every round starts every server afresh, on its own CPUs, and asks it from others. Scenarios:
  short-tiny, short-1b   32 streams of short prompts (quire-bench serve)
  behind-prefill         8 streams decode, a long prompt arrives, and then a short one
Figures go to OUT/serving.json; `--report` prints the tables of what is there.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import pathlib
import random
import shlex
import statistics
import subprocess
import threading
import time

START_SECONDS = 120
NUM_STREAMS = 32
NUM_RUNNING = 8
SLOT_TOKENS = 24576

SCENARIOS = {
    # shape, weights, answer tokens, requests of each stream, least ratio aimed at
    "short-tiny": ("tiny", "bf16", 128, 4, 3),
    "short-1b": ("llama-3.2-1b", "int8", 32, 1, 2),
    "behind-prefill": ("tiny", "bf16", 4000, 1, None),
}


def server_commands(args, scenario):
    shape, weights, *_ = SCENARIOS[scenario]
    folder = args.models / shape
    command = [args.quire / "server/quire", "--model", folder, "--port", args.port, "--no-grpc"]
    command += ["--threads", args.threads, "--log-level", "warn", *shlex.split(args.quire_flags)]
    if weights != "bf16":
        command += ["--weights", weights]
    yield "quire", command
    slots = NUM_STREAMS if scenario != "behind-prefill" else NUM_RUNNING + 2
    tokens = slots * (1024 if scenario != "behind-prefill" else SLOT_TOKENS)
    model = args.models / f"{shape}-{'bf16' if weights == 'bf16' else 'q8_0'}.gguf"
    for peer in args.peer:
        name, folder = peer.split("=", 1)
        yield name, [f"{folder}/llama-server", "-m", model, "--port", args.port, "-t", args.threads,
                     "-tb", args.threads, "-np", slots, "-c", tokens, "-fa", "on"]


@contextlib.contextmanager
def running(command, args):
    words = [*shlex.split(args.server_with), *map(str, command)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_healthy(args.port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words}: no server on port {args.port}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


def is_healthy(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


class Request(threading.Thread):
    """One streamed completion; `times` are the arrivals of its events with text."""

    def __init__(self, port, num_words, max_tokens, seed):
        super().__init__()
        words = random.Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        prompt = ("".join(words.choices(letters, k=words.randint(2, 6))) for _ in range(num_words))
        self.body = json.dumps({
            "prompt": " ".join(prompt), "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}})
        self.port, self.times, self.usage, self.error = port, [], {}, None
        self.has_text, self.is_stopped = threading.Event(), False

    def run(self):
        try:
            self.ask()
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            self.error = str(error)
        self.has_text.set()

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        self.asked = time.monotonic()
        connection.request("POST", "/v1/completions", self.body,
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read()[:200].decode(errors="replace"))
        for line in response:
            now = time.monotonic()
            if self.is_stopped:
                break
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            self.usage = event.get("usage") or self.usage
            if event.get("choices") and event["choices"][0].get("text"):
                self.times.append(now)
                self.has_text.set()
        connection.close()

    @property
    def first_token_seconds(self):
        if not self.times:
            raise RuntimeError(f"no answer: {self.error}")
        return self.times[0] - self.asked


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def behind_prefill(args, seed):
    max_tokens = SCENARIOS["behind-prefill"][2]
    streams = [Request(args.port, 32, max_tokens, seed + i) for i in range(NUM_RUNNING)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.has_text.wait()
    long = Request(args.port, args.long_words, 8, seed + 100)
    short = Request(args.port, 32, 8, seed + 101)
    long.start()
    time.sleep(0.3)
    short.start()
    long.join()
    short.join()
    for stream in streams:
        stream.is_stopped = True
        stream.join()
    begin, end = long.asked, long.asked + long.first_token_seconds
    gaps = [b - a for stream in streams for a, b in zip(stream.times, stream.times[1:])
            if b > begin and a < end]
    return {
        "long_prompt_tokens": long.usage.get("prompt_tokens"),
        "long_first_token_seconds": long.first_token_seconds,
        "short_first_token_seconds": short.first_token_seconds,
        "running_gap_p50_seconds": percentile(gaps, 0.5),
        "running_gap_p99_seconds": percentile(gaps, 0.99),
        "running_gap_max_seconds": max(gaps),
    }


def short_prompts(args, scenario, seed):
    _, _, max_tokens, requests, _ = SCENARIOS[scenario]
    command = [*shlex.split(args.client_with), args.quire / "tests/bench/quire-bench", "serve"]
    command += ["--port", args.port, "--streams", NUM_STREAMS, "--requests", requests]
    command += ["--max-tokens", max_tokens, "--seed", seed, "--output", "json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)["results"][0]


def measure(args, scenario):
    runs = {}
    for number in range(args.rounds):
        seed = 10_000_000 * (number + 1)
        for name, command in server_commands(args, scenario):
            try:
                with running(command, args):
                    if scenario == "behind-prefill":
                        figures = behind_prefill(args, seed)
                    else:
                        figures = short_prompts(args, scenario, seed)
            except RuntimeError as error:
                print(f"{scenario}: {name}: {error}")
                continue
            runs.setdefault(name, []).append(figures)
            print(f"{scenario} round {number + 1}: {name} {json.dumps(figures)}", flush=True)
    return {"date": datetime.date.today().isoformat(), "threads": args.threads, "runs": runs}


def median(runs, *keys):
    values = []
    for run in runs:
        for key in keys:
            run = run[key]
        values.append(run)
    return statistics.median(values)


def report_short(scenario, runs):
    shape, weights, *_, target = SCENARIOS[scenario]
    text = f"\n{NUM_STREAMS} streams, short prompts, {shape}, {weights}"
    rates = {name: median(r, "completion_tokens_per_second") for name, r in runs.items()}
    if len(rates) > 1 and "quire" in rates:
        ratio = rates["quire"] / max(rate for name, rate in rates.items() if name != "quire")
        text += f": {ratio:.2f}× the best peer (target ≥ {target}×: "
        text += "reached)" if ratio >= target else "not reached)"
    text += "\n\n| server | generated tok/s | first token, p50 / p95 ms | between tokens, p50 / p99 ms |"
    text += " failed |\n|---|---|---|---|---|\n"
    for name, r in runs.items():
        first, gap = "first_token_seconds", "inter_token_seconds"
        text += f"| {name} | {rates[name]:,.0f} "
        text += f"| {1e3 * median(r, first, 'p50'):,.0f} / {1e3 * median(r, first, 'p95'):,.0f} "
        text += f"| {1e3 * median(r, gap, 'p50'):.1f} / {1e3 * median(r, gap, 'p99'):.1f} "
        text += f"| {sum(x['failed'] for x in r)} of {sum(x['requests'] for x in r)} |\n"
    return text


def report_behind(runs):
    tokens = next(iter(runs.values()))[0]["long_prompt_tokens"]
    text = f"\n{NUM_RUNNING} streams decode, a prompt of {tokens:,} tokens arrives, then a short one"
    text += "\n\n| server | long prompt's first token, s | short request's first token, s |"
    text += " running streams: p50 / p99 / longest gap, ms |\n|---|---|---|---|\n"
    for name, r in runs.items():
        gaps = (1e3 * median(r, f"running_gap_{what}_seconds") for what in ("p50", "p99", "max"))
        text += f"| {name} | {median(r, 'long_first_token_seconds'):.2f} "
        text += f"| {median(r, 'short_first_token_seconds'):.3f} "
        text += "| " + " / ".join(f"{gap:,.1f}" for gap in gaps) + " |\n"
    return text


def report(results):
    text = ""
    for scenario in SCENARIOS:
        runs = results.get(scenario, {}).get("runs")
        if runs:
            is_behind = scenario == "behind-prefill"
            text += report_behind(runs) if is_behind else report_short(scenario, runs)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quire", type=pathlib.Path, help="Quire's build folder")
    parser.add_argument("--quire-flags", default="", help="more settings of Quire's server")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BIN",
                        help="folder with the peer's llama-server")
    parser.add_argument("--models", type=pathlib.Path, help="what make_model.py wrote")
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    parser.add_argument("--server-with", default="taskset -c 0,1")
    parser.add_argument("--client-with", default="taskset -c 2,3", help="of quire-bench serve")
    parser.add_argument("--long-words", type=int, default=4200,
                        help="of the long prompt; the default is about 14,400 tokens")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("comparison"))
    parser.add_argument("--report", action="store_true", help="only print the tables")
    args = parser.parse_args()
    path = args.out / "serving.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if not args.report:
        if not (args.quire and args.models):
            parser.error("--quire and --models are needed")
        args.out.mkdir(parents=True, exist_ok=True)
        for scenario in args.scenarios.split(","):
            results[scenario] = measure(args, scenario)
            path.write_text(json.dumps(results, indent=1) + "\n")
    print(report(results), end="")


if __name__ == "__main__":
    main()
