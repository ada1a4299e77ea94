#!/usr/bin/env python3
"""One model of random numbers as a bf16 folder and as GGUF files in blocks: speed and memory of quire-bench.

    taskset -c 3 tests/bench/gguf_speed.py --quire-bench build/release/tests/bench/quire-bench --out tests/bench/results

Standard library only. The models are written to a temporary folder (TMPDIR). Every round runs every file once, one
after the other, so that what else the machine does meets all of them. A figure is the best of the rounds' medians;
all are in OUT/gguf.json. `--report` prints the table of what is there.
"""

import argparse
import datetime
import functools
import json
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "compare"), str(HERE.parent / "integration")]
from gguf_writer import F32, STRING, U32, entry, name_of, padded, string  # noqa: E402
from llama_shapes import tensor_shapes  # noqa: E402

LAYERS, DIM, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 16, 1024, 16, 4, 64, 4096, 32768
CONTEXT = 1 << 17
CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB, "hidden_size": DIM, "intermediate_size": FFN,
          "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
          "head_dim": HEAD_DIM, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
          "max_position_embeddings": CONTEXT, "tie_word_embeddings": True}
# Name: (number in a GGUF, elements of a block, its bytes from the start, and how many random ones follow). The factors
# are powers of two that keep numbers small; kernels take the same time for all.
TYPES = {"F32": (0, 1, b"\0\0\x80\x3f", 0), "BF16": (30, 1, b"", 2),
         "Q8_0": (8, 32, struct.pack("<e", 2**-13), 32),
         "Q4_K": (12, 256, struct.pack("<ee", 2**-16, 7.5 * 2**-16), 140)}
KINDS = ("BF16", "Q8_0", "Q4_K")
TOKENS = {"prefill": 512, "decode": 64}  # of one repetition


@functools.lru_cache(maxsize=None)
def pattern(kind, table):
    """Random numbers as the bytes of a type, about a megabyte that is used again and again."""
    _, _, head, tail = TYPES[kind]
    if kind == "BF16":  # of either sign and about 2^-6: the upper byte is that of such a number
        return b"".join(bytes((low, 0x3C | low & 0x80)) for low in table[:1 << 19])
    return b"".join(head + table[i * tail % (len(table) - tail):][:tail] for i in range(1 << 13))


def tensors(kind, table):
    for name, shape in tensor_shapes(CONFIG).items():
        stored = kind if len(shape) == 2 else ("BF16" if kind == "BF16" else "F32")
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        _, elements, head, tail = TYPES[stored]
        size = count // elements * (len(head) + tail)
        one = TYPES["F32"][2] if stored == "F32" else b"\x80\x3f"
        data = one * count if len(shape) == 1 else pattern(stored, table)
        yield name, shape, stored, (data * -(-size // len(data)))[:size]


def write_folder(path, table):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    header, offset = {}, 0
    for name, shape, _, data in tensors("BF16", table):
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for *_, data in tensors("BF16", table):
            file.write(data)


def write_gguf(path, kind, table):
    values = {"vocab_size": VOCAB, "context_length": CONTEXT, "embedding_length": DIM, "block_count": LAYERS,
              "feed_forward_length": FFN, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
              "attention.key_length": HEAD_DIM, "attention.value_length": HEAD_DIM, "rope.dimension_count": HEAD_DIM}
    entries = [entry("general.architecture", STRING, string("llama")),
               entry("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
               entry("llama.rope.freq_base", F32, struct.pack("<f", 500000.0))]
    entries += [entry("llama." + key, U32, struct.pack("<I", value)) for key, value in values.items()]
    descriptions, offset = [], 0
    for name, shape, stored, data in tensors(kind, table):
        descriptions.append(string(name_of(name)) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *reversed(shape), TYPES[stored][0], offset))
        offset += len(padded(data))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(descriptions), len(entries))
    with open(path, "wb") as file:
        file.write(padded(head + b"".join(entries) + b"".join(descriptions)))
        for *_, data in tensors(kind, table):
            file.write(padded(data))


def run(args, mode, model, result):
    """Puts what quire-bench reports, and the memory that it has while it runs, into `result`."""
    tokens = ["--tokens", str(TOKENS[mode]), "--step-tokens", "512"] if mode == "prefill" else ["--steps", str(TOKENS[mode])]
    command = [args.quire_bench, mode, "--model", str(model), "--depth", "0", *tokens, "--attention", "full",
               "--repetitions", str(args.repetitions), "--threads", "1", "--output", "json",
               "--peak-gflops", "1", "--peak-gbps", "1"]  # measuring them would take memory of its own
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stderr.readline()  # a repetition is done, so nothing of loading is left
        fields = dict(line.split(":", 1) for line in open(f"/proc/{process.pid}/status", encoding="utf-8"))
        result["resident_bytes"].append(int(fields["VmRSS"].split()[0]) * 1024)
        report = json.loads(process.communicate()[0])
    times = report["results"][0]
    result[mode].append({"tok_per_s": times["tokens_per_second"]["median"],
                         "tok_per_cpu_s": TOKENS[mode] / times["cpu_seconds"]["median"]})
    result |= {"weights": report["model"]["weights"], "weight_bytes": report["model"]["weight_bytes"]}
    print(result["weights"], mode, result[mode][-1], file=sys.stderr)
    return report


def measure(args):
    table = random.Random(1).randbytes(1 << 20)
    results = {kind: {"prefill": [], "decode": [], "resident_bytes": []} for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        models = {kind: pathlib.Path(folder) / f"{kind}.gguf" for kind in KINDS}
        models["BF16"] = pathlib.Path(folder) / "bf16"
        for kind, path in models.items():
            write_folder(path, table) if kind == "BF16" else write_gguf(path, kind, table)
        for _ in range(args.rounds):
            for kind, path in models.items():
                for mode in TOKENS:
                    report = run(args, mode, path, results[kind])
    return {"date": datetime.date.today().isoformat(), "commit": report["commit"], "machine": report["machine"],
            "shape": [LAYERS, DIM, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB], "repetitions": args.repetitions,
            "results": results}


def table_of(figures):
    lines = ["| weights | their bytes | resident memory | prefill 512: tok/s; per CPU second | decode: tok/s; per CPU second |",
             "|---|---|---|---|---|"]
    for kind in KINDS:
        result = figures["results"][kind]
        cells = [f"{max(one['tok_per_s'] for one in result[mode]):,.4g};"
                 f" {statistics.median(one['tok_per_cpu_s'] for one in result[mode]):,.4g}" for mode in TOKENS]
        lines.append(f"| {result['weights']} | {result['weight_bytes'] / 2**20:,.0f} MiB"
                     f" | {statistics.median(result['resident_bytes']) / 2**20:,.0f} MiB | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quire-bench", default="build/release/tests/bench/quire-bench")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="the table of what was measured before")
    args = parser.parse_args()
    path = args.out / "gguf.json"
    if not args.report:
        path.write_text(json.dumps(measure(args), indent=1) + "\n")
    print(table_of(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
