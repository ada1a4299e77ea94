"""How Quire's programs and its peers' are started, and what their output means."""

import dataclasses
import json
import pathlib
import shlex
import statistics
import subprocess


@dataclasses.dataclass(frozen=True)
class Case:
    """Prefill of `tokens` tokens or decode of `tokens` steps behind `depth`; or a text tokenised."""

    shape: str  # a name of make_model.py
    weights: str  # bf16 or int8
    mode: str  # prefill, decode or tokenize
    depth: int = 0
    tokens: int = 0
    peer_tokens: int = 0  # a shorter chunk where the peer needs minutes; 0: the same
    attention: str = "moba"
    kv: str = "bf16"


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    command: tuple
    units: float  # tokens of one repetition; of a text: megabytes


@dataclasses.dataclass
class Places:
    """Where the programs and models are; all from the command line."""

    quire: pathlib.Path  # Quire's build folder
    peers: dict  # name -> the peer's bin folder
    models: pathlib.Path  # what make_model.py wrote
    threads: int
    prefix: list  # in front of every measured command
    repetitions: int  # inside one start of a program
    text: pathlib.Path | None = None  # to tokenise


QUIRE_TEXT_BYTES = 4 << 20  # its benchmark takes the first 4 MiB
PEER_WEIGHTS = {"bf16": "bf16", "int8": "q8_0"}


def add_options(parser):
    """What `places_of` reads, the peers' commits and the folder for results."""
    parser.add_argument("--quire", type=pathlib.Path, help="Quire's build folder")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BIN",
                        help="folder with the peer's llama-bench and peer_depth")
    parser.add_argument("--peer-commit", action="append", default=[], metavar="NAME=COMMIT")
    parser.add_argument("--models", type=pathlib.Path, help="what make_model.py wrote")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run-with", default="taskset -c 0,1", help="put before every command")
    parser.add_argument("--repetitions", type=int, default=5, help="within a start")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("comparison"))


def places_of(args, text=None):
    peers = {name: pathlib.Path(where) for name, where in (p.split("=", 1) for p in args.peer)}
    return Places(args.quire, peers, args.models, args.threads, shlex.split(args.run_with),
                  args.repetitions, text)


def run(places, command):
    """The program's JSON. Its stderr appears only when it fails."""
    done = subprocess.run([*places.prefix, *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout[min(i for i in map(done.stdout.find, "[{") if i >= 0) :])


def seconds_of(output):
    """Seconds of every repetition, of whichever program wrote this."""
    if isinstance(output, list):  # llama-bench
        return [nanoseconds / 1e9 for nanoseconds in output[0]["samples_ns"]]
    if "benchmarks" in output:  # Google Benchmark; real_time is in its time_unit
        per_second = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1}
        return [b["real_time"] / per_second[b["time_unit"]] for b in output["benchmarks"]]
    result = output["results"][0]
    if "skipped" in result:
        raise RuntimeError(result["skipped"])
    seconds = result["seconds"]
    return seconds["all"] if isinstance(seconds, dict) else seconds


def rate(contender, output):
    return contender.units / statistics.median(seconds_of(output))


def offers(program, mode, flag):
    help_text = subprocess.run([program, mode, "--help"], capture_output=True, text=True).stdout
    return flag in help_text


def tokenizers(places, case):
    """One text, one vocabulary."""
    megabytes = places.text.stat().st_size / 1e6
    program = places.quire / "tests/bench/quire_tokenizer_bench"
    own = ["env", f"QUIRE_BENCH_TEXT={places.text}", program, "--benchmark_format=json"]
    own += [f"--benchmark_filter=encode_unseen/threads:{places.threads}/"]
    yield Contender("quire", tuple(map(str, own)), min(megabytes, QUIRE_TEXT_BYTES / 1e6))
    model = places.models / f"{case.shape}-bf16.gguf"
    for peer, folder in places.peers.items():
        command = [folder / "peer_depth", "--model", model, "--tokenize", places.text]
        command += ["--repetitions", places.repetitions]
        yield Contender(peer, tuple(map(str, command)), megabytes)


def field(places, case, peaks):
    """Quire first, then the peers; nobody where this build of Quire or the machine has no part."""
    if case.mode == "tokenize":
        return list(tokenizers(places, case)) if places.text else []
    own = quire(places, case, peaks)
    return [own, *peers(places, case)] if own else []


def quire(places, case, peaks):
    """None where this build of Quire has no such weights or cache."""
    program = places.quire / "tests/bench/quire-bench"
    command = [program, case.mode, "--model", places.models / case.shape]
    command += ["--attention", case.attention, "--threads", places.threads]
    command += ["--depth", case.depth, "--repetitions", places.repetitions, "--output", "json"]
    command += ["--peak-gflops", peaks["gflops"], "--peak-gbps", peaks["gbytes_per_second"]]
    command += ["--tokens" if case.mode == "prefill" else "--steps", case.tokens]
    for flag, value in (("--weights", case.weights), ("--kv-dtype", case.kv)):
        if value == "bf16":
            continue
        if not offers(program, case.mode, flag):
            return None
        command += [flag, value]
    return Contender("quire", tuple(map(str, command)), case.tokens)


def measure_peaks(places):
    """Quire's own measure of the machine, once: every other run is given it."""
    program = places.quire / "tests/bench/quire-bench"
    command = [program, "prefill", "--depth", 0, "--tokens", 64, "--repetitions", 1]
    command += ["--threads", places.threads, "--output", "json"]
    output = run(places, list(map(str, command)))
    return output["peaks"], output["machine"], output["commit"]


def llama_bench(places, peer, case, model, extra):
    command = [places.peers[peer] / "llama-bench", "-m", model, "-t", places.threads, "-fa", 1]
    counts = ("-p", case.tokens, "-n", 0) if case.mode == "prefill" else ("-p", 0, "-n", case.tokens)
    command += [*counts, "-r", places.repetitions, "-o", "json", *extra]
    return tuple(map(str, command))


def peer_depth(places, peer, case, model, extra):
    tokens = case.peer_tokens or case.tokens
    is_prefill = case.mode == "prefill"
    is_short = case.depth >= 65536  # one chunk may take a minute: neither warm-up nor repetition
    command = [places.peers[peer] / "peer_depth", "--model", model, "--threads", places.threads]
    command += ["--depth", case.depth, "--tokens", tokens if is_prefill else 0]
    command += ["--steps", 0 if is_prefill else tokens]
    command += ["--repetitions", 1 if is_short else places.repetitions]
    command += ["--warm-up", 0 if is_short else 1, *extra]
    return tuple(map(str, command))


def peers(places, case):
    """Every peer as it comes, and in the settings that its authors offer for speed."""
    model = places.models / f"{case.shape}-{PEER_WEIGHTS[case.weights]}.gguf"
    make = llama_bench if case.depth == 0 else peer_depth
    units = case.tokens if case.depth == 0 else case.peer_tokens or case.tokens
    for peer in places.peers:
        variants = {peer: []}
        if peer.startswith("ik") and case.depth > 0:
            kv = "q8_0" if case.kv == "int8" else "bf16"
            variants[f"{peer}, {kv} KV"] = ["--kv", kv]
        elif peer.startswith("ik") and case.mode == "prefill":
            variants[f"{peer}, repacked"] = ["-rtr", 1]
        for name, extra in variants.items():
            yield Contender(name, make(places, peer, case, model, extra), units)
