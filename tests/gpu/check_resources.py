#!/usr/bin/env python3
"""Compares what ptxas said of every CUDA kernel when it was built with a committed table.

A kernel fails that spills, that uses more registers or stack than the table says, that the table
does not know, or that the table knows and the build lacks. --update writes the table anew.

  tests/gpu/check_resources.py --build-dir build/cuda
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys

TABLE = pathlib.Path(__file__).with_name("resources.json")
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def parse(report):
    """{arch: {mangled kernel: {registers, stack_bytes, spill_bytes}}} of ptxas -v's output.

    A kernel's frame is the largest of its own and those of the functions that it calls, which ptxas
    tells one after the other.
    """
    found, entry = {}, None
    for line in report.splitlines():
        if match := ENTRY.search(line):
            entry = found.setdefault(match.group(2), {}).setdefault(match.group(1), {})
        elif entry is not None and (match := FRAME.search(line)):
            stack = int(match.group(1))
            spills = int(match.group(2)) + int(match.group(3))
            entry["stack_bytes"] = max(stack, entry.get("stack_bytes", 0))
            entry["spill_bytes"] = max(spills, entry.get("spill_bytes", 0))
        elif entry is not None and (match := REGISTERS.search(line)):
            entry["registers"] = int(match.group(1))
    return found


def demangle(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True)
    readable = {}
    for name, text in zip(names, done.stdout.splitlines()):
        short = re.sub(r"\(anonymous namespace\)::|quire::(cuda::)?|^void ", "", text)
        readable[name] = re.sub(r"\(int\)", "", short).split("(")[0]
    return readable


def measure(build_dir):
    commands = json.loads((pathlib.Path(build_dir) / "compile_commands.json").read_text())
    # The emulated device compiles the same sources with the host's compiler.
    sources = [c for c in commands if c["file"].endswith(".cu") and "nvcc" in c["command"]]
    if not sources:
        sys.exit(f"{build_dir} compiles no CUDA source; configure it with -DQUIRE_CUDA=ON")
    kernels = {}
    for source in sources:
        words = shlex.split(source["command"])
        target = pathlib.Path(source["directory"], words[words.index("-o") + 1])
        report = target.with_name(f"{target.name}.ptxas")  # scripts/keep_ptxas_report.py
        if not report.exists():
            sys.exit(f"{report} is missing: build quire_kernels_cuda")
        stem = pathlib.Path(source["file"]).stem
        for arch, entries in parse(report.read_text(encoding="utf-8")).items():
            names = demangle(list(entries))
            for mangled, figures in entries.items():
                kernels.setdefault(arch, {})[f"{stem}: {names[mangled]}"] = figures
    return {arch: dict(sorted(entries.items())) for arch, entries in sorted(kernels.items())}


def compare(actual, expected):
    findings = []
    for arch in sorted(set(actual) | set(expected)):
        have, want = actual.get(arch, {}), expected.get(arch, {})
        findings += [f"{arch}: {k} is not in {TABLE.name}" for k in sorted(set(have) - set(want))]
        findings += [f"{arch}: {k} is not compiled any more" for k in sorted(set(want) - set(have))]
        findings += [f"{arch}: {k} spills {have[k]['spill_bytes']} bytes" for k in sorted(have)
                     if have[k]["spill_bytes"] > 0]
        for kernel in sorted(set(have) & set(want)):
            for figure, limit in want[kernel].items():
                if have[kernel][figure] > limit:
                    findings.append(f"{arch}: {kernel}: {figure} {have[kernel][figure]}, at most "
                                    f"{limit}")
    return findings


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-dir", default="build/cuda")
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    actual = measure(args.build_dir)
    if args.update:
        TABLE.write_text(json.dumps(actual, indent=1) + "\n")
    findings = compare(actual, json.loads(TABLE.read_text()))
    for finding in findings:
        print(finding, file=sys.stderr)
    num_kernels = sum(len(entries) for entries in actual.values())
    print(f"check_resources: {num_kernels} kernels, {len(findings)} finding(s)")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
