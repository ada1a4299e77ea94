#!/usr/bin/env python3
"""Models for the comparison: one set of random weights, as Quire reads it and as its peers do.

    make_model.py --shape tiny --tokenizer models/quire-6m --gguf-py LLAMA_CPP/gguf-py --out DIR

writes DIR/tiny (a Hugging Face folder) and DIR/tiny-bf16.gguf. Both hold the same numbers, so a
greedy answer of one server is the other's, up to rounding. `--from FOLDER` converts an existing
folder instead. llama-quantize makes the q8_0 file out of the bf16 one.

Needs numpy. Weights of the rows of the vocabulary that are no text (bytes, control tokens, and
what the shape has beyond the tokenizer) are zero: they are computed like all others and never
win, so that answers are valid UTF-8, which some servers insist on.
"""

import argparse
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

from llama_shapes import tensor_shapes

# layers, hidden, heads, KV heads, head dim, ffn, vocabulary, MoBA block
SHAPES = {
    "tiny": (8, 256, 8, 2, 64, 704, 4096, 128),
    "llama-3.2-1b": (16, 2048, 32, 8, 64, 8192, 128256, 512),
}
TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # SentencePiece's types
MAX_POSITIONS = 1 << 24


def protobuf_fields(data):
    """(field number, value) of one message; only the wire types that tokenizer.model has."""

    def varint(at):
        value, shift = 0, 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        kind = key & 7
        if kind == 0:
            value, at = varint(at)
        elif kind == 2:
            size, at = varint(at)
            value, at = data[at : at + size], at + size
        elif kind == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def read_pieces(folder):
    """[(text, score, type)] of a SentencePiece model."""
    pieces = []
    for number, message in protobuf_fields((folder / "tokenizer.model").read_bytes()):
        if number == 1:
            piece = dict(protobuf_fields(message))
            pieces.append((piece[1], piece.get(2, 0.0), piece.get(3, NORMAL)))
    return pieces


def config_of(shape):
    layers, hidden, heads, kv_heads, head_dim, inner, vocabulary, block = SHAPES[shape]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 6,
        "moba": {"block_size": block, "top_k": 8, "full_attention_layers": []},
    }


def to_bfloat16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def random_tensors(config, pieces, seed):
    """{name: bf16 bits}. One table of random numbers serves all: a billion draws take minutes."""
    random = np.random.default_rng(seed)
    table = random.standard_normal((1 << 22) + 1009, dtype=np.float32)
    tensors, start = {}, 0
    for name, shape in tensor_shapes(config).items():
        if len(shape) == 1:
            tensors[name] = to_bfloat16(np.ones(shape))
            continue
        bits = to_bfloat16(table / np.sqrt(shape[1]))
        count = shape[0] * shape[1]
        tensors[name] = np.resize(np.roll(bits, -start), count).reshape(shape)
        start = (start + count) % bits.size
    is_text = np.zeros(config["vocab_size"], bool)
    is_text[: len(pieces)] = [kind in (NORMAL, USER_DEFINED) for _, _, kind in pieces]
    tensors["model.embed_tokens.weight"][~is_text] = 0
    return tensors


def write_folder(folder, config, tensors, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
    header, end = {}, 0
    for name, bits in tensors.items():
        begin, end = end, end + bits.nbytes
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for bits in tensors.values():
            bits.tofile(file)


def read_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    path = folder / "model.safetensors"
    with open(path, "rb") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    tensors = {
        name: np.memmap(path, np.uint16, "r", 8 + header_bytes + entry["data_offsets"][0], tuple(entry["shape"]))
        for name, entry in header.items()
    }
    return config, tensors


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        layer, rest = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"
    return GGUF_NAMES[stem] + ".weight"


def interleaved(bits, heads):
    """GGUF's llama rotates neighbours, Hugging Face halves: another order of the same rows."""
    rows, width = bits.shape
    return bits.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(gguf, path, config, tensors, pieces):
    vocabulary = config["vocab_size"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    pieces = pieces + [
        (f"<unused {i}>".encode(), -1e4, UNUSED) for i in range(len(pieces), vocabulary)
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([kind for _, _, kind in pieces])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, bits in tensors.items():
        if bits.ndim == 1:  # norms are f32 in GGUF
            values = (bits.astype(np.uint32) << 16).view(np.float32)
            writer.add_tensor(gguf_name(name), values)
            continue
        projection = name.split(".")[-2]
        bits = interleaved(bits, heads[projection]) if projection in heads else bits
        writer.add_tensor(
            gguf_name(name),
            np.ascontiguousarray(bits).view(np.uint8),
            raw_dtype=gguf.GGMLQuantizationType.BF16,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--shape", choices=SHAPES)
    source.add_argument("--from", dest="folder", type=pathlib.Path, help="Hugging Face folder")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="folder with tokenizer.model")
    parser.add_argument("--gguf-py", type=pathlib.Path, help="gguf-py of llama.cpp's source")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.gguf_py:
        sys.path.insert(0, str(args.gguf_py))
    import gguf

    args.out.mkdir(parents=True, exist_ok=True)
    if args.folder:
        name, tokenizer = args.folder.resolve().name, args.folder
        config, tensors = read_folder(args.folder)
        pieces = read_pieces(tokenizer)
    else:
        name, tokenizer = args.shape, args.tokenizer
        if tokenizer is None:
            parser.error("--shape needs --tokenizer")
        config, pieces = config_of(args.shape), read_pieces(tokenizer)
        tensors = random_tensors(config, pieces, args.seed)
        write_folder(args.out / name, config, tensors, tokenizer)
    write_gguf(gguf, args.out / f"{name}-bf16.gguf", config, tensors, pieces)


if __name__ == "__main__":
    main()
