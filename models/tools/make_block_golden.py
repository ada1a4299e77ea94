#!/usr/bin/env python3
"""What the numbers of GGUF's blocks are, by the reference implementation of the PyPI package gguf.

    pip install gguf numpy
    python3 models/tools/make_block_golden.py tests/kernels/data/block_golden.json

Writes blocks of random bytes for every format that kernels/quant reads, and the float32 numbers that
gguf.quants.dequantize makes of them, both as hexadecimal text. The scales are random binary16 numbers, among
them a subnormal and a negative one.
"""

import json
import pathlib
import sys

import gguf
import numpy

SEED = 20250711
# Where a block holds binary16 numbers, in bytes from its start.
FORMATS = {"Q8_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
SPECIAL_SCALES = [0x0001, 0xBC00]  # the smallest subnormal, -1
NUM_ELEMENTS = 768


def main() -> None:
    random = numpy.random.default_rng(SEED)
    golden = {}
    for name, scale_offsets in FORMATS.items():
        quantization = gguf.GGMLQuantizationType[name]
        num_elements, num_bytes = gguf.GGML_QUANT_SIZES[quantization]
        num_blocks = NUM_ELEMENTS // num_elements
        blocks = random.integers(0, 256, (num_blocks, num_bytes), dtype=numpy.uint8)
        for offset in scale_offsets:
            scales = random.normal(0, 0.02, num_blocks).astype(numpy.float16).view(numpy.uint16)
            scales[-len(SPECIAL_SCALES):] = SPECIAL_SCALES
            blocks[:, offset:offset + 2] = scales.astype("<u2").view(numpy.uint8).reshape(-1, 2)
        numbers = gguf.quants.dequantize(blocks.reshape(1, -1), quantization)
        golden[name] = {"blocks": blocks.tobytes().hex(), "numbers": numbers.astype("<f4").tobytes().hex()}
    halves = numpy.arange(0, 65536, 149, dtype=numpy.uint16)
    golden["F16"] = {"blocks": halves.astype("<u2").tobytes().hex(),
                     "numbers": halves.view(numpy.float16).astype("<f4").tobytes().hex()}
    text = json.dumps(golden, indent=1, sort_keys=True) + "\n"
    pathlib.Path(sys.argv[1]).write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
