#!/usr/bin/env python3
"""What MoBA's block size and top-k bring and cost: right answers and time, by context length.

    tests/eval/tradeoff.py --server build/release/server/quire --out build/eval/tradeoff

Serves one model with every block size and every top-k of a prompt's tokens in turn, asks needle.py's
questions, and times the first token of the same document without a cached prefix (the median of
three). An answer's tokens read the same number of blocks, or as many as hold --decode-tokens. Prints
a table, also in OUT/report.md; the same command again goes on where it stopped. Needs the `openai`
package.
"""

import argparse
import contextlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
import time
import urllib.request

import needle

RUNS = 3  # of every timing


@contextlib.contextmanager
def serving(args, block: int, top_k: int):
    """The server with these blocks, ready; ended afterwards."""
    command = [args.server, "--port", str(args.port), "--no-grpc", "--moba-block-size", str(block),
               "--moba-top-k", str(top_k),
               "--moba-decode-top-k", str(args.decode_tokens // block or top_k), "--max-model-len", str(2 * max(args.contexts)), *args.server_args.split()]
    if args.model:
        command += ["--model", args.model]
    with (args.out / "server.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready(process, args.port)
            yield
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(process, port: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
            return
        time.sleep(0.2)
    raise SystemExit("the server ended: see server.log")


def seconds_to_first_token(args, filler: str, tokens: int) -> list[float]:
    server = needle.Server(f"http://127.0.0.1:{args.port}/v1")
    text, _ = needle.document_of(server, random.Random(args.seed), filler, [], tokens)
    taken = []
    for run in range(RUNS):
        begin = time.monotonic()
        server.complete(f"{run} {text}", "?", 1, {})  # another beginning: nothing cached
        taken.append(time.monotonic() - begin)
    return taken


def measure(args, block: int, top_k: int) -> None:
    out = args.out / f"block{block}_top{top_k}"
    subprocess.run(
        [sys.executable, needle.__file__, "--base-url", f"http://127.0.0.1:{args.port}/v1",
         "--contexts", ",".join(map(str, args.contexts)), "--questions", str(args.questions),
         "--seed", str(args.seed), "--out", out]
        + (["--filler", args.filler] if args.filler else []), check=True, stdout=subprocess.DEVNULL)
    timings = out / "first_token.json"
    taken = json.loads(timings.read_text()) if timings.exists() else {}
    for tokens in args.contexts:
        if str(tokens) in taken:
            continue
        filler = needle.load_filler(args.filler, needle.REPOSITORY / "build/eval/filler.txt")
        taken[str(tokens)] = seconds_to_first_token(args, filler, tokens)
        timings.write_text(json.dumps(taken) + "\n")


def share_right(path: pathlib.Path, tokens: int) -> str:
    summary = json.loads((path / "summary.json").read_text())
    counts = [c for c in summary["counts"] if c["tokens"] == tokens and c["depth"] == "all"
              and c["kind"] == needle.SINGLE]
    right, asked = (sum(c[key] for c in counts) for key in ("right", "asked"))
    return f"{100 * right / asked:.1f}" if asked else "–"


def report(args) -> str:
    text = "| block size | top-k | tokens read |"
    text += "".join(f" {needle.heatmap.label(tokens)} |" for tokens in args.contexts)
    text += "\n" + "|---" * (3 + len(args.contexts)) + "|\n"
    for block in args.block_sizes:
        for top_k in args.top_k:
            path = args.out / f"block{block}_top{top_k}"
            if not (path / "first_token.json").exists():
                continue
            taken = json.loads((path / "first_token.json").read_text())
            cells = [f"{share_right(path, tokens)}, {statistics.median(taken[str(tokens)]):.2f} s"
                     if str(tokens) in taken else "" for tokens in args.contexts]
            text += f"| {block} | {top_k} | {block * top_k} | {' | '.join(cells)} |\n"
    (args.out / "report.md").write_text(text, encoding="utf-8")
    return text


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the quire binary")
    parser.add_argument("--server-args", default="", help="more of its options, in one string")
    parser.add_argument("--model", help="a folder; default: the bundled model")
    parser.add_argument("--port", type=int, default=8011)
    parser.add_argument("--block-sizes", type=numbers, default=[32, 64, 128])
    parser.add_argument("--top-k", type=numbers, default=[8, 16, 32])
    parser.add_argument("--decode-tokens", type=int, default=0,
                        help="in the blocks that an answer's tokens read; 0: in as many blocks as "
                             "a prompt's tokens read")
    parser.add_argument("--contexts", type=numbers, default=[4096, 16384, 65536, 262144])
    parser.add_argument("--questions", type=int, default=40, help="for every context and depth")
    parser.add_argument("--filler", type=pathlib.Path, help="a text; default: a Debian package's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a folder")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for block in args.block_sizes:
        for top_k in args.top_k:
            with serving(args, block, top_k):
                measure(args, block, top_k)
    print(report(args), end="")


if __name__ == "__main__":
    main()
