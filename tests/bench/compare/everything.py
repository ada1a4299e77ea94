#!/usr/bin/env python3
"""Every measurement in one command: steps, servers, scaling, long documents, plots and tables.

    everything.py --quire build/release --peer llama.cpp=BIN --peer ik_llama.cpp=BIN \\
        --models DIR --text FILE --out tests/bench/results

Takes hours: the peers need them. `--tables-only` draws and writes what the folder's JSON says.
OUT/README.md keeps what stands above its line `<!-- measured -->`.
"""

import argparse
import pathlib
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MARK = "<!-- measured -->\n"


def call(script, *flags, prefix=()):
    done = subprocess.run([*prefix, sys.executable, HERE / script, *flags], check=False)
    if done.returncode != 0:
        print(f"{script}: {done.returncode}", file=sys.stderr)
    return done.returncode


def printed(script, *flags):
    return subprocess.run([sys.executable, HERE / script, *flags], check=True,
                          capture_output=True, text=True).stdout


def write_tables(out):
    text = ""
    if (out / "comparison.json").exists():
        text += "\n## Steps of a model\n\n" + printed("compare.py", "--out", out, "--report")
    if (out / "serving.json").exists():
        text += "\n## Servers\n" + printed("serve.py", "--out", out, "--report")
    if (out / "scaling.json").exists():
        text += "\n## Prefill from 4K to 1M tokens\n\n![](scaling.svg)\n\n![](prefill_cost.svg)\n\n"
        text += printed("plot_scaling.py", out)
    if documents := printed("../long_document.py", "--out", out, "--report"):
        text += "\n## Long documents through HTTP\n" + documents
    readme = out / "README.md"
    head = readme.read_text().split(MARK)[0] if readme.exists() else "# results\n\n"
    readme.write_text(head + MARK + text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quire", type=pathlib.Path)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BIN")
    parser.add_argument("--peer-commit", action="append", default=[], metavar="NAME=COMMIT")
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--run-with", default="taskset -c 0,1", help="put before every step program")
    parser.add_argument("--serve-with", default="", help="put before the comparison of servers")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tables-only", action="store_true")
    args = parser.parse_args()
    failed = 0
    if not args.tables_only:
        if not (args.quire and args.peer and args.models):
            parser.error("--quire, --peer and --models are needed")
        common = ["--quire", args.quire, "--models", args.models, "--out", args.out]
        common += [word for peer in args.peer for word in ("--peer", peer)]
        commits = [word for c in args.peer_commit for word in ("--peer-commit", c)]
        steps = [*common, *commits, "--run-with", args.run_with]
        text = ["--text", args.text] if args.text else []
        failed |= call("compare.py", *steps, *text)
        failed |= call("serve.py", *common, prefix=shlex.split(args.serve_with))
        (args.out / "scaling.json").unlink(missing_ok=True)
        failed |= call("measure_scaling.py", *steps)
        server = ["--quire", args.quire / "server/quire", "--out", args.out]
        failed |= call("../long_document.py", "128k", "--rounds", "5", *server)
        failed |= call("../long_document.py", "million", "--rounds", "5", *server)
        failed |= call("../long_document.py", "ten-million", *server)
    write_tables(args.out)
    sys.exit(failed)


if __name__ == "__main__":
    main()
