#!/usr/bin/env python3
"""Prefill of the bundled model from 4,096 to 1,048,576 tokens: MoBA, full attention, dense peers.

    measure_scaling.py --quire build/release --peer ik_llama.cpp=BIN --models DIR --out DIR

Whole prefills where they take minutes at most, else chunks behind each depth, from which
plot_scaling.py sums the whole. DIR/quire-6m-bf16.gguf is `make_model.py --from models/quire-6m`.
Writes OUT/scaling.json after every step; a step that is there already is not repeated.
"""

import argparse
import datetime
import json
import pathlib

import contenders

CONTEXTS = [4096 << (2 * i) for i in range(5)]  # 4K, 16K, …, 1M
DEPTHS = [0, *(4096 << i for i in range(9))]
MOBA_STEP = 8192  # what a server of long documents is set to
FULL_WHOLE_UP_TO = 65536
FULL_TOKENS = 512
PEER_TOKENS = 128
MODEL = "quire-6m"


def quire_chunk(output):
    result = output["results"][0]
    return {
        "depth": result["depth"],
        "tokens": result["tokens"],
        "seconds": result["seconds"]["all"],
        "op_seconds": result["op_seconds"],
        "work": result["work"],
    }


def steps(args, places):
    """(series, kind, where on the x axis, command, how its output is read)."""
    quire = places.quire / "tests/bench/quire-bench"
    base = [quire, "prefill", "--threads", places.threads, "--output", "json"]
    base += ["--peak-gflops", args.peaks["gflops"]]
    base += ["--peak-gbps", args.peaks["gbytes_per_second"]]
    for attention, step in (("moba", MOBA_STEP), ("full", FULL_TOKENS)):
        own = [*base, "--attention", attention, "--step-tokens", step]
        for context in CONTEXTS:
            if attention == "moba" or context <= FULL_WHOLE_UP_TO:
                repetitions = args.repetitions if context <= 16384 else 1
                command = [*own, "--whole", "--depth", context, "--repetitions", repetitions]
                yield attention, "whole", context, command, quire_chunk
        for depth in DEPTHS:
            repetitions = args.repetitions if attention == "moba" or depth <= 65536 else 1
            command = [*own, "--tokens", step, "--depth", depth, "--repetitions", repetitions]
            yield attention, "chunks", depth, command, quire_chunk
    for peer, folder in places.peers.items():
        for depth in DEPTHS:
            is_deep = depth > 65536
            command = [folder / "peer_depth", "--model", places.models / f"{MODEL}-bf16.gguf"]
            command += ["--threads", places.threads, "--depth", depth, "--tokens", PEER_TOKENS]
            command += ["--repetitions", 1 if is_deep else args.repetitions]
            command += ["--warm-up", 0 if is_deep else 1]
            command += ["--kv", "bf16"] if peer.startswith("ik") else []  # its faster one
            yield peer, "chunks", depth, command, lambda output: output["results"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser)
    args = parser.parse_args()
    if not args.quire:
        parser.error("--quire is needed")
    if args.peer and not args.models:
        parser.error("--peer needs --models")
    places = contenders.places_of(args)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "scaling.json"
    results = json.loads(path.read_text()) if path.exists() else {"series": {}}
    args.peaks, machine, commit = contenders.measure_peaks(places)
    args.peaks = max(args.peaks, results.get("peaks", args.peaks), key=lambda p: p["gflops"])
    results |= {"model": MODEL, "cpu": machine["cpu"], "threads": args.threads, "commit": commit,
                "date": datetime.date.today().isoformat(), "peaks": args.peaks,
                "peers": results.get("peers", {})
                | dict(pair.split("=", 1) for pair in args.peer_commit)}
    for series, kind, where, command, read in steps(args, places):
        points = results["series"].setdefault(series, {}).setdefault(kind, {})
        if str(where) in points:
            continue
        try:
            points[str(where)] = read(contenders.run(places, list(map(str, command))))
        except RuntimeError as error:
            print(f"{series} {kind} {where}: {error}")
            continue
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{series} {kind} {where}: {points[str(where)]['seconds']}", flush=True)


if __name__ == "__main__":
    main()
