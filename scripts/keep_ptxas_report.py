#!/usr/bin/env python3
"""Runs one compile command of nvcc and keeps what ptxas says of its kernels beside the object file,
as OBJECT.ptxas, for tests/gpu/check_resources.py: to ask again would be to compile again.

  scripts/keep_ptxas_report.py nvcc -Xptxas=-v … -o OBJECT
"""

import pathlib
import re
import subprocess
import sys

REPORT = re.compile(r"ptxas info\b|\s+\d+ bytes stack frame,")


def main():
    command = sys.argv[1:]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    report = []
    for line in done.stderr.splitlines(keepends=True):
        if REPORT.match(line):
            report.append(line)
        else:
            sys.stderr.write(line)
    if done.returncode == 0:
        target = command[command.index("-o") + 1]
        pathlib.Path(f"{target}.ptxas").write_text("".join(report), encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
