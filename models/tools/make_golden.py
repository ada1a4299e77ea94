#!/usr/bin/env python3
"""Greedy tokens and logprobs of a model folder, computed from the written semantics alone.

    pip install numpy sentencepiece
    python3 models/tools/make_golden.py models/quire-6m

Reads golden_prompts.json beside this script, writes golden.json into the model folder. This is a second
implementation on purpose: it shares no code with the C++ backends, follows MoBA's definition token by
token and head by head, and computes in float64 with roundings only where the op contracts put one
(kernels/ops/*.h): bf16 for weights, norm outputs, rotated queries and keys, cached values, centroids,
attention outputs and SwiGLU's product; f32 for the residual stream and every product's result.
"""

import argparse
import json
import pathlib
import struct

import numpy as np
import sentencepiece

CENTROID_RUN = 128  # kernels/ops/seal_blocks.h
DOCUMENT_END = "That is all there is to read here."  # the chat template's, behind a document
NUM_TOP = 5  # [token, logprob] pairs kept per step; the answers are so sure that one would say little


def to_bf16(x):
    """Nearest bf16, ties to even, as float32. Finite input."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def load_safetensors(path):
    raw = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + header_bytes]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", name
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        bits = np.frombuffer(raw[begin:end], dtype=np.uint16).astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


class Moba:
    """How attention runs in one golden case."""

    def __init__(self, case):
        self.block_size = case["block_size"]
        self.top_k = case["top_k"]
        self.full_layers = set(case["full_attention_layers"])
        self.decode_is_full = case["decode"] == "full"


class Sequence:
    """One sequence's cache: per layer, keys and values [tokens, kv_heads, d], one centroid a block."""

    def __init__(self, num_layers, num_kv_heads, head_dim):
        empty = np.zeros((0, num_kv_heads, head_dim), dtype=np.float32)
        self.keys = [empty] * num_layers
        self.values = [empty] * num_layers
        self.centroids = [[] for _ in range(num_layers)]


def centroid(keys):
    """keys: one full block [block_size, kv_heads, d]. Sums in f32 in the order the contract fixes."""
    total = np.zeros(keys.shape[1:], dtype=np.float32)
    for run_start in range(0, len(keys), CENTROID_RUN):
        run = np.zeros_like(total)
        for row in keys[run_start : run_start + CENTROID_RUN]:
            run = run + row
        total = total + run
    return to_bf16(total * np.float32(1.0 / len(keys)))


def attended_positions(query, centroids, position, moba):
    """Positions one query head attends to. query [d], centroids: [d] per complete block."""
    size = moba.block_size
    current = position // size
    scores = [float(np.dot(query.astype(np.float64), centroids[i])) for i in range(current)]
    # Best first; equal scores: the higher block index.
    ranked = sorted(range(current), key=lambda i: (scores[i], i), reverse=True)
    chosen = sorted(ranked[: moba.top_k - 1]) + [current]
    return np.concatenate([np.arange(b * size, min((b + 1) * size, position + 1)) for b in chosen])


class Llama:
    def __init__(self, model_dir):
        self.config = json.loads((model_dir / "config.json").read_text())
        self.weights = load_safetensors(model_dir / "model.safetensors")
        self.head_dim = self.config["head_dim"]
        self.num_heads = self.config["num_attention_heads"]
        self.num_kv_heads = self.config["num_key_value_heads"]
        self.num_layers = self.config["num_hidden_layers"]
        pairs = np.arange(self.head_dim // 2, dtype=np.float64)
        self.inv_freq = self.config["rope_theta"] ** (-2.0 * pairs / self.head_dim)

    def product(self, x, name):
        weight = self.weights[name].astype(np.float64)
        return (x.astype(np.float64) @ weight.T).astype(np.float32)

    def norm(self, x, name):
        wide = x.astype(np.float64)
        scale = 1.0 / np.sqrt((wide**2).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        return to_bf16((wide * scale * self.weights[name]).astype(np.float32))

    def rotate(self, x, positions):
        """x [tokens, heads, d] f32 -> bf16, half-split pairs."""
        angles = positions[:, None].astype(np.float64) * self.inv_freq
        cos = np.cos(angles).astype(np.float32)[:, None]
        sin = np.sin(angles).astype(np.float32)[:, None]
        low, high = np.split(x, 2, axis=-1)
        return to_bf16(np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1))

    def attention(self, x, layer, positions, sequence, moba, is_full):
        prefix = f"model.layers.{layer}.self_attn."
        num_tokens, d = len(x), self.head_dim
        query = self.product(x, prefix + "q_proj.weight").reshape(num_tokens, self.num_heads, d)
        key = self.product(x, prefix + "k_proj.weight").reshape(num_tokens, self.num_kv_heads, d)
        value = self.product(x, prefix + "v_proj.weight").reshape(num_tokens, self.num_kv_heads, d)
        query, key = self.rotate(query, positions), self.rotate(key, positions)
        keys = sequence.keys[layer] = np.concatenate([sequence.keys[layer], key])
        values = sequence.values[layer] = np.concatenate([sequence.values[layer], to_bf16(value)])
        centroids, size = sequence.centroids[layer], moba.block_size
        while (len(centroids) + 1) * size <= len(keys):
            centroids.append(centroid(keys[len(centroids) * size : (len(centroids) + 1) * size]))

        out = np.zeros((num_tokens, self.num_heads, d), dtype=np.float32)
        for t, position in enumerate(positions):
            for head in range(self.num_heads):
                g = head // (self.num_heads // self.num_kv_heads)
                q = query[t, head].astype(np.float64)
                if is_full:
                    rows = np.arange(position + 1)
                else:
                    rows = attended_positions(q, [c[g] for c in centroids], position, moba)
                logits = (keys[rows, g].astype(np.float64) @ q) * d**-0.5
                weights = np.exp(logits - logits.max())
                mixed = weights @ values[rows, g].astype(np.float64) / weights.sum()
                out[t, head] = to_bf16(mixed.astype(np.float32))
        return self.product(out.reshape(num_tokens, -1), prefix + "o_proj.weight")

    def mlp(self, x, layer):
        prefix = f"model.layers.{layer}.mlp."
        gate = self.product(x, prefix + "gate_proj.weight").astype(np.float64)
        up = self.product(x, prefix + "up_proj.weight").astype(np.float64)
        activated = to_bf16((gate / (1.0 + np.exp(-gate)) * up).astype(np.float32))
        return self.product(activated, prefix + "down_proj.weight")

    def forward(self, tokens, sequence, moba, is_decode):
        """Appends `tokens`; returns the logits after the last one, [vocab] f32."""
        start = len(sequence.keys[0])
        positions = np.arange(start, start + len(tokens))
        x = self.weights["model.embed_tokens.weight"][tokens]
        for layer in range(self.num_layers):
            prefix = f"model.layers.{layer}."
            is_full = layer in moba.full_layers or (is_decode and moba.decode_is_full)
            normed = self.norm(x, prefix + "input_layernorm.weight")
            x = x + self.attention(normed, layer, positions, sequence, moba, is_full)
            x = x + self.mlp(self.norm(x, prefix + "post_attention_layernorm.weight"), layer)
        last = self.norm(x[-1:], "model.norm.weight")
        tied = self.config["tie_word_embeddings"]
        return self.product(last, "model.embed_tokens.weight" if tied else "lm_head.weight")[0]


def encode_prompt(case, tokenizer):
    """<s> document, DOCUMENT_END <|user|> question <|assistant|>, each part encoded by a call of its
    own. With `align_to` the document loses tokens at its start until the length leaves `remainder`."""
    user, assistant = (tokenizer.piece_to_id(piece) for piece in ("<|user|>", "<|assistant|>"))
    document = tokenizer.encode(case["document"])
    tail = [*tokenizer.encode(DOCUMENT_END), user, *tokenizer.encode(case["question"]), assistant]
    if "align_to" in case:
        surplus = (1 + len(document) + len(tail) - case["remainder"]) % case["align_to"]
        document = document[surplus:]
    return [tokenizer.bos_id()] + document + tail


def run_case(case, model, tokenizer, eos):
    moba = Moba(case)
    sequence = Sequence(model.num_layers, model.num_kv_heads, model.head_dim)
    prompt = encode_prompt(case, tokenizer)
    logits = model.forward(prompt, sequence, moba, is_decode=False)
    steps = []
    while True:
        wide = logits.astype(np.float64)
        shifted = wide - wide.max()
        logprobs = shifted - np.log(np.exp(shifted).sum())
        top = np.argsort(-wide, kind="stable")[:NUM_TOP]
        steps.append([[int(token), round(float(logprobs[token]), 6)] for token in top])
        best = int(top[0])
        if best == eos or len(steps) == case["max_tokens"]:
            break
        logits = model.forward([best], sequence, moba, is_decode=True)
    tokens = [step[0][0] for step in steps]
    margin = min(step[0][1] - step[1][1] for step in steps)
    result = {key: case[key] for key in ("name", "about", "block_size", "top_k",
                                         "full_attention_layers", "decode", "question")}
    result["answer"] = tokenizer.decode(tokens)
    result["expected_answer"] = case["expected_answer"]
    result["smallest_margin"] = round(margin, 4)  # how far greedy is from a coin toss, in logits
    result["num_prompt_tokens"] = len(prompt)
    result["tokens"] = tokens
    result["top_logprobs"] = steps
    result["prompt"] = prompt
    result["prompt_text"] = tokenizer.decode(prompt)
    print(f"{case['name']}: {len(prompt)} tokens, margin {margin:.3f}: {result['answer']}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("--prompts", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("golden_prompts.json"))
    args = parser.parse_args()
    model = Llama(args.model_dir)
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(args.model_dir / "tokenizer.model"))
    cases = [run_case(case, model, tokenizer, model.config["eos_token_id"])
             for case in json.loads(args.prompts.read_text(encoding="utf-8"))]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (args.model_dir / "golden.json").write_text(
        '{"made_by": "models/tools/make_golden.py", "cases": [\n' + lines + "\n]}\n",
        encoding="utf-8")


if __name__ == "__main__":
    main()
