#!/usr/bin/env python3
"""Small checkpoints in FP8 as their writers save them, and the bf16 numbers that they stand for.

    pip install numpy torch
    python3 models/tools/make_fp8_golden.py tests/models/fp8.json

`codes` are the 256 numbers of torch.float8_e4m3fn. Each of `checkpoints` is a Llama of one layer: its config.json, its
tensors, and of each matrix in FP8 the product of number and scale, rounded to bf16 by integer arithmetic. Among the
codes of every matrix are subnormals and both zeros. `near_tie` is a product that two roundings, to float32 and then
to bf16, get wrong.
"""

import json
import pathlib
import sys

import numpy
import torch

SEED = 20250713
HIDDEN, INNER, VOCAB, HEADS, KV_HEADS, HEAD = 20, 28, 24, 2, 1, 8
MATRICES = {"self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER)}
CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
          "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
          "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
          "tie_word_embeddings": False, "eos_token_id": 2}
BLOCK = [8, 16]  # cut at the last rows and columns of most matrices


def compressed_tensors(strategy, block=None, activations=None):
    weights = {"actorder": None, "block_structure": block, "dynamic": False, "group_size": None, "num_bits": 8,
               "observer": "minmax", "observer_kwargs": {}, "strategy": strategy, "symmetric": True, "type": "float"}
    group = {"input_activations": activations, "output_activations": None, "targets": ["Linear"], "weights": weights}
    return {"config_groups": {"group_0": group}, "format": "float-quantized", "global_compression_ratio": 1.4,
            "ignore": ["lm_head"], "kv_cache_scheme": None, "quant_method": "compressed-tensors",
            "quantization_status": "compressed"}


DYNAMIC = {"actorder": None, "block_structure": None, "dynamic": True, "group_size": None, "num_bits": 8, "observer": None,
           "observer_kwargs": {}, "strategy": "token", "symmetric": True, "type": "float"}
# Name, quantization_config, what the scales are called, their dtype, their shape for one matrix.
CHECKPOINTS = [
    ("compressed-tensors by tensor", compressed_tensors("tensor"), "weight_scale", torch.float32, lambda n, k: [1]),
    ("compressed-tensors by channel", compressed_tensors("channel", activations=DYNAMIC), "weight_scale",
     torch.bfloat16, lambda n, k: [n, 1]),
    ("compressed-tensors by block", compressed_tensors("block", block=BLOCK), "weight_scale", torch.float16,
     lambda n, k: [-(-n // BLOCK[0]), -(-k // BLOCK[1])]),
    ("fp8 by tensor", {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
     "weight_scale", torch.float32, lambda n, k: []),
    ("fp8 by block", {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": BLOCK,
                      "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm"]},
     "weight_scale_inv", torch.float32, lambda n, k: [-(-n // BLOCK[0]), -(-k // BLOCK[1])]),
]
STORED = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3"}


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes().hex()


def stored(tensor):
    return {"dtype": STORED[tensor.dtype], "shape": list(tensor.shape), "data": raw(tensor)}


def to_bfloat16(exact):
    """Bits of the nearest bf16, ties to even, of float64 numbers that are exact."""
    _, exponent = numpy.frexp(exact)
    last_place = numpy.ldexp(1.0, numpy.maximum(exponent, -125) - 8)
    rounded = numpy.rint(exact / last_place) * last_place
    return (rounded.astype(numpy.float32).view(numpy.uint32) >> 16).astype("<u2")


def codes_of(shape):
    codes = torch.normal(0.0, 120.0, shape).clamp(-448, 448).to(torch.float8_e4m3fn)
    special = torch.tensor([0x00, 0x80, 0x01, 0x87, 0x7E, 0xFE, 0x08, 0x88], dtype=torch.uint8)
    codes.view(torch.uint8).reshape(-1)[:: codes.numel() // 8][:8] = special
    return codes


def expanded(scales, shape):
    """The scale of every number of a matrix."""
    scales = scales.double().numpy()
    if scales.size == 1:
        return numpy.full(shape, scales.item())
    for axis, extent in enumerate(shape):
        tile = {1: extent, extent: 1}.get(scales.shape[axis], BLOCK[axis])
        scales = numpy.repeat(scales, tile, axis=axis)[(slice(None),) * axis + (slice(extent),)]
    return scales


def checkpoint(name, quantization, scale_name, dtype, shape_of):
    tensors = {"model.embed_tokens.weight": torch.normal(0.0, 1.0, (VOCAB, HIDDEN)).bfloat16(),
               "lm_head.weight": torch.normal(0.0, 0.3, (VOCAB, HIDDEN)).bfloat16()}
    for norm in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
        tensors[norm + ".weight"] = torch.normal(1.0, 0.1, (HIDDEN,)).bfloat16()
    expected = {}
    for matrix, shape in MATRICES.items():
        module = "model.layers.0." + matrix
        codes = codes_of(shape)
        scales = torch.exp(torch.normal(-7.0, 0.7, shape_of(*shape))).to(dtype)
        tensors[module + ".weight"] = codes
        tensors[f"{module}.{scale_name}"] = scales
        if quantization.get("activation_scheme") == "static":
            tensors[module + ".input_scale"] = torch.tensor(0.02)
        exact = codes.double().numpy() * expanded(scales, shape)
        expected[module + ".weight"] = to_bfloat16(exact).tobytes().hex()
    return {"name": name, "config": CONFIG | {"quantization_config": quantization},
            "tensors": {key: stored(value) for key, value in tensors.items()}, "expected": expected}


def near_tie():
    """9/8 times a float32 just above half-way between two bf16, by less than float32 can say."""
    for scale in range(1 << 23, 1 << 24):
        product = 9 * scale  # 27 bits; bf16 drops 19 of them, float32 3
        if product >> 26 == 1 and 0 < (product & 0xFFFFF) - (1 << 18) < 4:
            bits = to_bfloat16(numpy.float64(product) * 2.0**-26)
            factor = numpy.float32(scale * 2.0**-23)
            twice = torch.tensor(numpy.float32(numpy.float64(product) * 2.0**-26)).bfloat16()
            assert raw(twice) != bits.tobytes().hex()
            return {"code": 0x39, "scale": factor.astype("<f4").tobytes().hex(), "expected": bits.tobytes().hex()}
    raise AssertionError("no such number")


def main() -> None:
    torch.manual_seed(SEED)
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    golden = {"codes": raw(codes.float()), "near_tie": near_tie(),
              "checkpoints": [checkpoint(*case) for case in CHECKPOINTS]}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(golden, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
