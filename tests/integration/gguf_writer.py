"""Writes a Hugging Face folder of a Llama with a SentencePiece tokenizer as one GGUF file, in nothing but Python."""

import json
import struct

U8, U32, F32, BOOL, STRING, ARRAY, F64 = 0, 4, 6, 7, 8, 9, 12
ALIGNMENT = 32
TYPES = {"F32": 0, "F16": 1, "BF16": 30}
MODEL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def padded(data):
    return data + bytes(-len(data) % ALIGNMENT)


def fields(message):
    """(number, value) of a protobuf message; fixed numbers come as bytes."""
    def varint(pos):
        value = shift = 0
        while True:
            byte = message[pos]
            pos, value, shift = pos + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value, pos

    pos = 0
    while pos < len(message):
        tag, pos = varint(pos)
        if tag & 7 == 0:
            value, pos = varint(pos)
        else:
            size, pos = varint(pos) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], pos)
            value, pos = message[pos:pos + size], pos + size
        yield tag >> 3, value


def tokenizer_entries(folder):
    model = list(fields((folder / "tokenizer.model").read_bytes()))
    pieces = [dict(fields(value)) for number, value in model if number == 1]
    normalizer = dict(fields(next(value for number, value in model if number == 3)))
    return [
        entry("tokenizer.ggml.model", STRING, string("llama")),
        entry("tokenizer.ggml.tokens", ARRAY, array(STRING, [string(p[1]) for p in pieces])),
        entry("tokenizer.ggml.scores", ARRAY, array(F32, [p.get(2, bytes(4)) for p in pieces])),
        entry("tokenizer.ggml.token_type", ARRAY,
              array(U32, [struct.pack("<I", p.get(3, 1)) for p in pieces])),
        entry("tokenizer.ggml.precompiled_charsmap", ARRAY,
              struct.pack("<IQ", U8, len(normalizer[2])) + normalizer[2]),
        entry("tokenizer.ggml.add_space_prefix", BOOL, bytes([normalizer.get(3, 1)])),
        entry("tokenizer.ggml.remove_extra_whitespaces", BOOL, bytes([normalizer.get(4, 1)])),
    ]


def config_entries(folder):
    config = json.loads((folder / "config.json").read_text())
    chat_template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]

    def number(key, value):
        return entry(key, U32, struct.pack("<I", value))

    return [
        entry("general.architecture", STRING, string("llama")),
        number("llama.vocab_size", config["vocab_size"]),
        number("llama.context_length", config["max_position_embeddings"]),
        number("llama.embedding_length", config["hidden_size"]),
        number("llama.block_count", config["num_hidden_layers"]),
        number("llama.feed_forward_length", config["intermediate_size"]),
        number("llama.attention.head_count", config["num_attention_heads"]),
        number("llama.attention.head_count_kv", config["num_key_value_heads"]),
        number("llama.attention.key_length", config["head_dim"]),
        number("llama.attention.value_length", config["head_dim"]),
        number("llama.rope.dimension_count", config["head_dim"]),
        entry("llama.rope.freq_base", F64, struct.pack("<d", config["rope_theta"])),
        entry("llama.attention.layer_norm_rms_epsilon", F32,
              struct.pack("<f", config["rms_norm_eps"])),
        entry("quire.moba", STRING, string(json.dumps(config["moba"]))),
        number("tokenizer.ggml.bos_token_id", config["bos_token_id"]),
        number("tokenizer.ggml.eos_token_id", config["eos_token_id"]),
        entry("tokenizer.chat_template", STRING, string(chat_template)),
    ], config["head_dim"]


def name_of(name):
    stem, _, suffix = name.rpartition(".")
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.{suffix}"


def paired(data, num_rows, head_dim):
    """The rows of every head in pairs: one of its first half, one of its second."""
    size = len(data) // num_rows
    rows = [data[i * size:(i + 1) * size] for i in range(num_rows)]
    half = head_dim // 2
    return b"".join(rows[head + which * half + i] for head in range(0, num_rows, head_dim)
                    for i in range(half) for which in range(2))


def converted(data, type_name):
    """bf16 numbers as another type."""
    if type_name == "BF16":
        return data
    words = struct.unpack(f"<{len(data) // 2}H", data)
    as_float = struct.pack(f"<{len(words)}I", *(word << 16 for word in words))
    if type_name == "F32":
        return as_float
    return struct.pack(f"<{len(words)}e", *struct.unpack(f"<{len(words)}f", as_float))


def tensors(folder, head_dim, matrix_type):
    """(name, shape, type, bytes); vectors are always F32, as usual."""
    file = (folder / "model.safetensors").read_bytes()
    begin = 8 + struct.unpack("<Q", file[:8])[0]
    for name, info in json.loads(file[8:begin]).items():
        if name == "__metadata__":
            continue
        first, end = info["data_offsets"]
        data, shape = file[begin + first:begin + end], info["shape"]
        type_name = "F32" if len(shape) == 1 else matrix_type
        if "q_proj" in name or "k_proj" in name:
            data = paired(data, shape[0], head_dim)
        yield name_of(name), shape, TYPES[type_name], converted(data, type_name)


def write_gguf(folder, path, matrix_type):
    entries, head_dim = config_entries(folder)
    entries += tokenizer_entries(folder)
    descriptions, data = [], bytearray()
    for name, shape, kind, values in tensors(folder, head_dim, matrix_type):
        descriptions.append(string(name) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data)))
        data += padded(values)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(descriptions), len(entries))
    path.write_bytes(padded(head + b"".join(entries) + b"".join(descriptions)) + data)
    return path
