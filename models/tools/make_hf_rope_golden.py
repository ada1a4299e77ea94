#!/usr/bin/env python3
"""Rotation frequencies as Hugging Face transformers computes them, for every kind of RoPE scaling.

    pip install torch transformers
    python3 models/tools/make_hf_rope_golden.py tests/models/hf_rope.json

Writes config.json texts as published folders have them, in the older form (rope_scaling) and in that of
transformers 5 (rope_parameters), and beside each what ROPE_INIT_FUNCTIONS makes of it: inverse frequencies
(float32) and the attention factor; for the types that look at the length, at several lengths.
"""

import argparse
import json
import pathlib

from transformers import LlamaConfig, Phi3Config, Qwen2Config, SmolLM3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

SHAPE = {"vocab_size": 24, "hidden_size": 64, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-5,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CLASSES = {"LlamaForCausalLM": LlamaConfig, "Qwen2ForCausalLM": Qwen2Config,
           "Phi3ForCausalLM": Phi3Config, "SmolLM3ForCausalLM": SmolLM3Config}


def llama(max_positions=131072, **more):
    return {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": max_positions, **SHAPE, **more}


def phi3(pairs, share=None, **rope):
    rope = {"short_factor": [1.0 + 0.02 * i for i in range(pairs)],
            "long_factor": [1.05 + 1.9 * i for i in range(pairs)], **rope}
    config = {"architectures": ["Phi3ForCausalLM"], "max_position_embeddings": 131072,
              "original_max_position_embeddings": 4096, "rope_theta": 10000.0, **SHAPE,
              "rope_scaling": rope}
    return config if share is None else {**config, "partial_rotary_factor": share}


LLAMA3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
          "original_max_position_embeddings": 8192, "rope_type": "llama3"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}

# name, config.json, the longest sequences to ask for
CASES = [
    ("no scaling", llama(4096, rope_theta=500000.0), [4096]),
    ("no field at all", {**llama(4096), "architectures": ["SmolLM3ForCausalLM"]}, [4096]),
    ("linear", llama(8192, rope_scaling={"type": "linear", "factor": 2.5}), [8192]),
    ("linear, transformers 5", llama(rope_parameters={"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}),
     [131072]),
    ("dynamic", llama(2048, rope_scaling={"type": "dynamic", "factor": 2.0}), [1024, 2048, 2049, 5000, 16384]),
    ("dynamic, transformers 5",
     llama(4096, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 50000.0}), [4096, 30000]),
    ("yarn", {**llama(32768, rope_theta=1e6, rope_scaling=YARN), "architectures": ["Qwen2ForCausalLM"]}, [32768]),
    ("yarn, all fields", llama(rope_parameters={
        "rope_type": "yarn", "factor": 40.0, "rope_theta": 10000.0, "original_max_position_embeddings": 4096,
        "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.707}), [131072]),
    ("yarn, not truncated", llama(rope_parameters={
        "rope_type": "yarn", "factor": 32.0, "rope_theta": 150000.0, "original_max_position_embeddings": 4096,
        "truncate": False, "attention_factor": 1.25}), [131072]),
    ("llama3", llama(rope_theta=500000.0, rope_scaling=LLAMA3), [131072]),
    ("llama3, transformers 5", llama(rope_parameters={**LLAMA3, "factor": 8.0, "rope_theta": 500000.0}), [131072]),
    ("longrope", phi3(16, type="longrope"), [4096, 4097, 131072]),
    ("longrope, its first name", phi3(16, type="su", original_max_position_embeddings=4096),
     [4096, 131072]),
    ("longrope, three quarters of a head", phi3(12, 0.75, type="longrope"), [4096, 131072]),
    ("longrope, transformers 5", {
        **llama(rope_parameters={"rope_type": "longrope", "factor": 16.0, "rope_theta": 10000.0,
                                 "original_max_position_embeddings": 8192,
                                 "short_factor": [1.0] * 16, "long_factor": [2.0 + i for i in range(16)]})},
     [8192, 8193]),
]


def compute(text, max_len):
    """transformers' frequencies for one config.json, as the model's constructor asks for them."""
    fields = json.loads(text)
    name = fields["architectures"][0]
    config = CLASSES[name].from_dict(fields)
    rope_type = config.rope_parameters["rope_type"]
    if rope_type == "default":
        rotary = Phi3RotaryEmbedding if name == "Phi3ForCausalLM" else LlamaRotaryEmbedding
        return rotary.compute_default_rope_parameters(config)
    return ROPE_INIT_FUNCTIONS[rope_type](config, "cpu", seq_len=max_len)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    lines = []
    for name, config, lengths in CASES:
        for max_len in lengths:
            frequencies, attention_factor = compute(json.dumps(config), max_len)
            lines.append(json.dumps({
                "name": name, "config": config, "max_model_len": max_len,
                "inv_freq": [float(f"{x:.9g}") for x in frequencies.tolist()],
                "attention_factor": attention_factor}))
    args.out.write_text('{"made_by": "models/tools/make_hf_rope_golden.py",\n"cases": [\n'
                        + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
