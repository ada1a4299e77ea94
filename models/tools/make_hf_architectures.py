#!/usr/bin/env python3
"""What Hugging Face transformers computes with small random models of every architecture that Quire runs.

    pip install torch transformers
    python3 models/tools/make_hf_architectures.py tests/models/hf_architectures.json

(--salt TEXT: other models and prompts, for a comparison that nobody has seen before; tests/parity.)

Every case is a model that transformers makes and saves. The file has its config.json as it was saved, names
and shapes of its tensors (their numbers are a hash of salt, name and index, which the tests compute again), and for
a prompt of PROMPT tokens the largest logits after every STRIDE-th, then NUM_GENERATED greedy tokens with the two
largest logits before each; all in float32 with eager attention.

Quire rounds to bf16 where transformers keeps float32: norm outputs, rotated queries and keys, cached values,
attention outputs and SwiGLU's product (models/README.md). `deviation` is how far such roundings move a
logit: the rms over SEEDS runs in which each of those numbers gets an error that is uniform over one unit in the
last place of bf16. Of NUM_PROMPTS prompts the one is taken whose greedy tokens are least a matter of chance.
"""

import argparse
import contextlib
import importlib
import json
import pathlib
import tempfile
import unittest.mock

import numpy
import safetensors
import torch
import transformers

from make_hf_golden import with_rounding_error

PROMPT, STRIDE, NUM_TOP = 512, 16, 4
NUM_GENERATED = 64
NUM_PROMPTS = 12
SEEDS = 8
VOCAB = 128

SHAPE = {"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
         "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 256}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 256}
# Three quarters of a head of 16 rotate.
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256,
            "partial_rotary_factor": 0.75, "short_factor": [1.0 + 0.05 * i for i in range(6)],
            "long_factor": [1.1 + 1.5 * i for i in range(6)]}

# 512 tokens are short, and the greedy ones cross the limit.
CROSSING = {**LONGROPE, "original_max_position_embeddings": 540}

CASES = [
    ("llama", "Llama", {}),
    ("llama, biases, tied, heads of 24", "Llama",
     {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 24}),
    ("llama, llama3 scaling", "Llama", {"rope_parameters": LLAMA3}),
    ("llama, linear scaling", "Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    ("llama, dynamic scaling", "Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}),
    ("mistral, window of 48", "Mistral", {"sliding_window": 48}),
    ("mistral, no window", "Mistral", {"sliding_window": None, "num_key_value_heads": 1}),
    ("qwen2, yarn scaling", "Qwen2", {"rope_parameters": YARN}),
    ("qwen2, window of 100 from layer 1", "Qwen2",
     {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}),
    ("qwen3, heads of 32", "Qwen3", {"head_dim": 32}),
    ("phi3, longrope, part of a head", "Phi3",
     {"rope_parameters": LONGROPE, "original_max_position_embeddings": 256}),
    ("phi3, longrope, from short to long", "Phi3",
     {"rope_parameters": CROSSING, "original_max_position_embeddings": 540}),
    ("phi3, window of 70", "Phi3", {"sliding_window": 70}),
    ("smollm3", "SmolLM3", {"num_hidden_layers": 4}),
    ("smollm3, window of 33 without rope", "SmolLM3",
     {"use_sliding_window": True, "sliding_window": 33, "no_rope_layers": [0, 1, 0]}),
]


def hashes(name, count):
    """[count] bytes: the top ones of splitmix64 from the FNV-1a hash of a text on."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
    return ((z ^ z >> numpy.uint64(31)) >> numpy.uint64(56)).astype(numpy.int64)


def numbers(salt, name, shape):
    """Exact in bf16 and in float16: matrices of deviation 0.14, biases of 0.6, norms from 0.5 to 1.5."""
    signed = hashes(salt + name, int(numpy.prod(shape))) - 128
    if "norm" in name:
        values = 1 + (signed >> 1) / 128
    else:
        values = signed / (128 if name.endswith("bias") else 512)
    return torch.tensor(values.reshape(shape), dtype=torch.float32)


def make_model(kind, fields, folder, salt="", **saving):
    """The model, and the folder as its user would get it."""
    config = getattr(transformers, kind + "Config")(**{**SHAPE, **fields})
    model = getattr(transformers, kind + "ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(numbers(salt, name, tuple(parameter.shape)))
    model.to(saving.pop("dtype", torch.float32)).save_pretrained(folder, **saving)
    del model
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert type(loaded).__name__ == kind + "ForCausalLM"
    return loaded


@contextlib.contextmanager
def rounding_errors(model):
    """While it is open, the model's numbers have errors where Quire's are rounded to bf16."""
    modeling = importlib.import_module(type(model).__module__)
    exact_attention = modeling.eager_attention_forward

    def attention(module, query, key, value, *args, **kwargs):
        rounded = [with_rounding_error(x) for x in (query, key, value)]
        out, weights = exact_attention(module, *rounded, *args, **kwargs)
        return with_rounding_error(out), weights

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if name.endswith(("layernorm", "model.norm")):
                stack.callback(module.register_forward_hook(
                    lambda _module, _inputs, output: with_rounding_error(output)).remove)
            elif name.endswith("down_proj"):
                stack.callback(module.register_forward_pre_hook(
                    lambda _module, inputs: (with_rounding_error(inputs[0]),)).remove)
        stack.enter_context(
            unittest.mock.patch.object(modeling, "eager_attention_forward", attention))
        yield


def crosses(model):
    """Whether the frequencies change between the prompt and the last greedy token."""
    rope = model.config.rope_parameters
    return (rope["rope_type"] == "longrope"
            and PROMPT <= rope["original_max_position_embeddings"] < PROMPT + NUM_GENERATED)


def generate(model, prompt):
    """Greedy tokens, none of them the last, and the logits before each; as transformers' generate() does it: with the
    cache, which it drops where longrope's factors change."""
    tokens, logits, inputs, cache = [], [], torch.tensor([prompt]), None
    for _ in range(NUM_GENERATED):
        if crosses(model) and (len(prompt) + len(tokens)
                               == model.config.rope_parameters["original_max_position_embeddings"] + 1):
            inputs, cache = torch.tensor([prompt + tokens]), None
        out = model(inputs, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1])
        tokens.append(int(logits[-1].argmax()))
        inputs = torch.tensor([[tokens[-1]]])
    return tokens, torch.stack(logits)


def exact_logits(model, prompt, tokens):
    """Without the cache: [PROMPT + NUM_GENERATED, VOCAB], each row as a sequence that ends there would have it, but the
    prompt's as one that ends with it."""
    if not crosses(model):
        return model(torch.tensor([prompt + tokens])).logits[0]
    rows = [model(torch.tensor([prompt])).logits[0]]
    for end in range(1, len(tokens) + 1):
        rows.append(model(torch.tensor([prompt + tokens[:end]])).logits[0, -1:])
    # What generate() makes of it, which drops its cache by itself.
    inputs = torch.tensor([prompt])
    generated = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=len(tokens),
                               do_sample=False, eos_token_id=None)
    assert generated[0].tolist() == prompt + tokens
    return torch.cat(rows)


def least_margin(logits):
    best = logits.topk(2).values
    return float((best[:, 0] - best[:, 1]).min())


def clearest_prompt(model, salt, num_tokens=PROMPT):
    """Of NUM_PROMPTS prompts the one whose greedy tokens are least a matter of chance, with the tokens and the logits
    before each."""
    prompts = [(hashes(f"{salt} {i}", num_tokens) % VOCAB).tolist() for i in range(NUM_PROMPTS)]
    return max(((p, *generate(model, p)) for p in prompts), key=lambda result: least_margin(result[2]))


def run_case(salt, name, kind, fields):
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(kind, fields, folder, salt)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        with safetensors.safe_open(pathlib.Path(folder) / "model.safetensors", "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
            for key, shape in shapes.items():
                assert torch.equal(file.get_tensor(key), numbers(salt, key, shape)), key
    prompt, tokens, greedy = clearest_prompt(model, salt + name)
    inputs = torch.tensor([prompt + tokens])
    exact = exact_logits(model, prompt, tokens)
    # With the cache and without it transformers is the same model.
    assert (exact[PROMPT - 1:-1] - greedy).abs().max() < 1e-3, name
    unrounded = model(inputs).logits[0]
    squares = torch.zeros_like(unrounded)
    with rounding_errors(model):
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            squares += (model(inputs).logits[0] - unrounded) ** 2
    deviation = float((squares / SEEDS).mean().sqrt())
    print(f"{name}: deviation {deviation:.4f} of {float(exact.std()):.3f}, "
          f"least margin {least_margin(greedy):.4f}")

    def top(row, count):
        best = row.topk(count)
        return [[token, round(value, 4)] for token, value in
                zip(best.indices.tolist(), best.values.tolist())]

    return {"name": name, "config": config, "tensors": shapes, "deviation": round(deviation, 5),
            "prompt": prompt, "tokens": tokens,
            "logits": [[i, top(exact[i], NUM_TOP)] for i in range(STRIDE - 1, PROMPT, STRIDE)],
            "greedy": [top(row, 2) for row in greedy]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--salt", default="")
    args = parser.parse_args()
    with torch.inference_mode():
        lines = [json.dumps(run_case(args.salt, *case), separators=(",", ":")) for case in CASES]
    salt = f'"salt": {json.dumps(args.salt)},\n' if args.salt else ""
    args.out.write_text('{"made_by": "models/tools/make_hf_architectures.py",\n' + salt + '"cases": [\n'
                        + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
