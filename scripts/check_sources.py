#!/usr/bin/env python3
"""Source checks: format, format-check, check-layering, check-headers. Exit status 1 on a finding."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

# Includes may only point to the right: a folder may use itself and what stands behind it.
LAYERS = {
    "server": {"server", "proto", "quire", "engine", "models", "kernels"},
    "engine": {"engine", "models", "kernels"},
    "models": {"models", "kernels"},
    "kernels": {"kernels"},
}
ROOMS = {"server", "engine", "models", "kernels", "proto", "tests"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# The only file that may ask whether this build has CUDA.
CUDA_CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif).*QUIRE_(HAVE_)?CUDA", re.MULTILINE)
CUDA_CONDITION_HOME = "kernels/backend_registry.cc"
SUFFIXES = (".h", ".cc", ".cu", ".cuh")


def sources(*folders):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix in SUFFIXES and "_generated" not in path.parts:
                yield path


def check_layering(_args):
    findings = []
    for folder, allowed in LAYERS.items():
        for path in sources(folder):
            text = path.read_text(encoding="utf-8")
            for target in INCLUDE.findall(text):
                room = target.split("/")[0]
                if room in ROOMS and room not in allowed:
                    findings.append(f"{path}: {folder}/ must not include {target}")
            if CUDA_CONDITION.search(text) and path.as_posix() != CUDA_CONDITION_HOME:
                findings.append(f"{path}: QUIRE_CUDA may be tested in {CUDA_CONDITION_HOME} only")
    return findings


def compile_flags(build_dir, folder):
    """Include and language flags that the build uses for a source of this folder."""
    commands = json.loads((pathlib.Path(build_dir) / "compile_commands.json").read_text())
    root = pathlib.Path.cwd()
    for entry in commands:
        path = pathlib.Path(entry["file"])
        if path.is_relative_to(root / folder) and path.suffix == ".cc":
            words = shlex.split(entry["command"])
            kept, take_next = [], False
            for word in words[1:]:
                if take_next:
                    kept.append(word)
                    take_next = False
                elif word in ("-isystem", "-I"):
                    kept.append(word)
                    take_next = True
                elif word.startswith(("-I", "-D", "-std", "-W", "-f")):
                    kept.append(word)
            return words[0] if "ccache" not in words[0] else words[1], kept
    return None, None


def check_headers(args):
    """Every header compiles alone."""
    jobs = []
    # kernels/cuda is compiled with CUDA's headers, or against the emulated device's.
    for folder in ("kernels/cuda", "kernels", "models", "engine", "server", "tests"):
        compiler, flags = compile_flags(args.build_dir, folder)
        if compiler is None:
            continue
        has_cublas = any(pathlib.Path(flag, "cublasLt.h").exists() for flag in flags)
        for header in sources(folder):
            if folder == "kernels" and header.is_relative_to("kernels/cuda"):
                continue
            if "<cublasLt.h>" in header.read_text(encoding="utf-8") and not has_cublas:
                continue
            if header.suffix == ".h" and not header.stem.endswith("-inl"):
                jobs.append((header, [compiler, *flags, "-fsyntax-only", "-x", "c++",
                                      "-include", str(header), os.devnull]))

    def run(job):
        header, command = job
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{header} does not compile alone:\n{done.stderr}" if done.returncode else None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [finding for finding in pool.map(run, jobs) if finding]


def run_format(args):
    files = [str(path) for path in sources("kernels", "models", "engine", "server", "tests")]
    if args.check == "format":
        subprocess.run([args.clang_format, "-i", *files], check=True)
        return []
    done = subprocess.run([args.clang_format, "--dry-run", "-Werror", *files],
                          capture_output=True, text=True, check=False)
    return [done.stderr] if done.returncode else []


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    checks = {"format": run_format, "format-check": run_format,
              "check-layering": check_layering, "check-headers": check_headers}
    parser.add_argument("check", choices=checks)
    parser.add_argument("--clang-format", default="clang-format-14")
    parser.add_argument("--build-dir", default="build/release")
    args = parser.parse_args()
    findings = checks[args.check](args)
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{args.check}: {'ok' if not findings else f'{len(findings)} finding(s)'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
