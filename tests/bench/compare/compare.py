#!/usr/bin/env python3
"""Quire against llama.cpp and ik_llama.cpp on a CPU: steps of a model, in alternation.

    compare.py --quire build/release --peer llama.cpp=BIN --peer ik_llama.cpp=BIN --models DIR

README.md says how the peers and the models are made. Every round starts every program once; the
figure of a program is the median over the rounds. All values go to OUT/comparison.json, whatever
the programs wrote to OUT/raw/LINE.json. A line that is measured again replaces itself;
`--report` prints the table of what is there.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import sys

import contenders
from contenders import Case

BIG, TINY = "llama-3.2-1b", "tiny"

# name: (case, least ratio to the best peer that is aimed at). Order of the table.
LINES = {
    "1b-bf16-prefill": (Case(BIG, "bf16", "prefill", 0, 512), 1.05),
    "1b-int8-prefill": (Case(BIG, "int8", "prefill", 0, 512), 1.6),
    "1b-bf16-decode": (Case(BIG, "bf16", "decode", 0, 32), 1.05),
    "1b-int8-decode": (Case(BIG, "int8", "decode", 0, 32), 1.15),
    "1b-bf16-prefill-16k": (Case(BIG, "bf16", "prefill", 16384, 512, peer_tokens=128), 4),
    "1b-bf16-prefill-64k": (Case(BIG, "bf16", "prefill", 65536, 512, peer_tokens=128), 13),
    "1b-bf16-decode-16k": (Case(BIG, "bf16", "decode", 16384, 16), 1.4),
    "1b-bf16-decode-64k": (Case(BIG, "bf16", "decode", 65536, 16, peer_tokens=8), 4),
    "1b-int8-decode-16k": (Case(BIG, "int8", "decode", 16384, 16, kv="int8"), 2.2),
    "1b-int8-decode-64k": (Case(BIG, "int8", "decode", 65536, 16, peer_tokens=8, kv="int8"), 7),
    "tiny-prefill": (Case(TINY, "bf16", "prefill", 0, 512, attention="full"), 1.5),
    "tiny-prefill-4k": (Case(TINY, "bf16", "prefill", 4096, 512, attention="full"), 2.5),
    "tiny-prefill-64k": (Case(TINY, "bf16", "prefill", 65536, 512, peer_tokens=128), None),
    "tiny-prefill-256k": (Case(TINY, "bf16", "prefill", 262144, 512, peer_tokens=128), None),
    "tiny-prefill-1m": (Case(TINY, "bf16", "prefill", 1048576, 512, peer_tokens=128), 250),
    "tiny-decode-1m": (Case(TINY, "bf16", "decode", 1048576, 64, peer_tokens=4), 120),
    "tokenizer": (Case(TINY, "bf16", "tokenize"), 10),
}


def measure_line(places, name, rounds, peaks):
    case, _ = LINES[name]
    field = contenders.field(places, case, peaks)
    if not field:
        print(f"{name}: left out; it needs --text FILE, or a Quire that has {case.weights} weights"
              f" and {case.kv} KV")
        return None, []
    values = {contender.name: [] for contender in field}
    raw = []
    for number in range(rounds):
        for contender in field:
            output = contenders.run(places, contender.command)
            rate = contenders.rate(contender, output)
            values[contender.name].append(rate)
            raw.append({"contender": contender.name, "round": number, "output": output})
            print(f"{name} round {number + 1}: {contender.name} {rate:.4g}/s", flush=True)
    return {
        "shape": case.shape,
        "weights": case.weights,
        "kv": case.kv,
        "attention": case.attention,
        "mode": case.mode,
        "depth": case.depth,
        "tokens": case.tokens,
        "peer_tokens": case.peer_tokens or case.tokens,
        "rates": values,
    }, raw


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values):
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def title(line):
    if line["mode"] == "tokenize":
        return "tokenisation of unseen text, MB/s"
    depth = line["depth"]
    where = f" behind {depth:,}" if depth else ""
    what = f"prefill {line['tokens']}" if line["mode"] == "prefill" else "decode"
    kv = ", int8 KV" if line["kv"] == "int8" else ""
    return f"{line['shape']}, {line['weights']}{kv}: {what}{where}, {line['attention']}"


def report(results):
    """The table in Markdown."""
    facts = sorted({"{cpu}, {threads} threads, Quire {commit}, {date}".format(**line)
                    for line in results["lines"].values()})
    peers = "".join(f", {name} {commit}" for name, commit in results.get("peers", {}).items())
    text = "; ".join(facts) + peers + ".\n\n| work | Quire, tok/s | best peer, tok/s | ratio | target | reached |\n"
    text += "|---|---|---|---|---|---|\n"
    for name, (case, target) in LINES.items():
        line = results["lines"].get(name)
        if line is None:
            continue
        rates = {who: statistics.median(v) for who, v in line["rates"].items()}
        own = rates.pop("quire")
        best = max(rates, key=rates.get)
        ratio = own / rates[best]
        goal = "–" if target is None else f"≥ {target}×"
        verdict = "–" if target is None else "yes" if ratio >= target else "no"
        cells = line["rates"]
        text += f"| {title(line)} | {spread(cells['quire'])} | {best}: {spread(cells[best])} "
        text += f"| {ratio:.3g}× | {goal} | {verdict} |\n"
    return text


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser)
    parser.add_argument("--text", type=pathlib.Path, help="4 MiB or more, for the tokenizer line")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each program")
    parser.add_argument("--lines", help="comma-separated; default: all")
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()
    for name in args.lines.split(",") if args.lines else []:
        if name not in LINES:
            parser.error(f"--lines: no line {name}; there are {', '.join(LINES)}")
    if not args.report and not (args.quire and args.peer and args.models):
        parser.error("--quire, --peer and --models are needed")
    return args


def main():
    args = parse()
    path = args.out / "comparison.json"
    results = json.loads(path.read_text()) if path.exists() else {"lines": {}}
    if args.report:
        print(report(results), end="")
        return
    places = contenders.places_of(args, args.text)
    (args.out / "raw").mkdir(parents=True, exist_ok=True)
    peaks, machine, commit = contenders.measure_peaks(places)
    results["peers"] = results.get("peers", {}) | dict(c.split("=", 1) for c in args.peer_commit)
    failed = []
    for name in args.lines.split(",") if args.lines else LINES:
        try:
            line, raw = measure_line(places, name, args.rounds, peaks)
        except RuntimeError as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
            continue
        if line is None:
            continue
        line |= {"cpu": machine["cpu"], "threads": args.threads, "peaks": peaks, "commit": commit,
                 "date": datetime.date.today().isoformat()}
        results["lines"][name] = line
        words = json.dumps(raw, indent=1)
        for folder in (args.models, args.quire):  # nobody else's
            words = words.replace(f"{folder}/", "")
        (args.out / "raw" / f"{name}.json").write_text(words + "\n")
        path.write_text(json.dumps(results, indent=1) + "\n")
    print(report(results), end="")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
