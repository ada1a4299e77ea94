#!/usr/bin/env python3
"""Attention of PyTorch beside Quire's, on the same device in the same run.

One layer's attention over a whole prompt, causal, and over one new token behind it, in the shape of
Llama-3.1-8B: scaled_dot_product_attention by its flash and cuDNN kernels, and FlexAttention with
blocks selected as MoBA selects them (the mean of a block's keys, the top k per token and head, the
own block always). Prints JSON: medians of seconds, or why a peer is left out. The other side is
quire-bench with --op-times, whose times are of all layers.

  tests/gpu/peers.py [--device cuda] [--tokens 8192,32768,131072] [--blocks 4096:12,2048:3,512:3,128:8]
"""

import argparse
import json
import statistics
import sys
import time

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
FLEX_TILE = 128  # of FlexAttention's mask; smaller blocks of MoBA share a tile
QUERIES_AT_ONCE = 1024  # whose scores are held at a time while blocks are selected


def seconds_of(torch, device, action, repetitions):
    """Median of timed runs behind two that are not."""
    times = []
    for run in range(repetitions + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if run >= 2:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def selected_blocks(torch, q, k, block_size, top_k):
    """bool [heads, tokens, blocks]: for q [1, heads, tokens, d] and k [1, kv_heads, tokens, d]."""
    tokens, group = q.shape[2], q.shape[1] // k.shape[1]
    num_blocks = tokens // block_size
    means = k[0].float().unflatten(1, (num_blocks, block_size)).mean(2).to(q.dtype)
    means = means.repeat_interleave(group, 0)
    chosen = torch.zeros(q.shape[1], tokens, num_blocks, dtype=torch.bool, device=q.device)
    blocks = torch.arange(num_blocks, device=q.device)
    for first in range(0, tokens, QUERIES_AT_ONCE):
        rows = slice(first, min(first + QUERIES_AT_ONCE, tokens))
        own = torch.arange(rows.start, rows.stop, device=q.device) // block_size
        scores = (q[0, :, rows] @ means.transpose(1, 2)).float()
        scores = scores.masked_fill(blocks > own[:, None], -torch.inf)
        scores = scores.masked_fill(blocks == own[:, None], torch.inf)
        best = scores.topk(min(top_k, num_blocks), -1)
        part = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best.indices, True)
        chosen[:, rows] = part & (scores > -torch.inf)
    return chosen


def flex_attention_of(torch, q, k, v, block_size, top_k):
    """A function that runs FlexAttention over the selection; made and compiled beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    chosen = selected_blocks(torch, q, k, block_size, top_k)

    def is_seen(batch, head, query, key):
        return chosen[head, query, key // block_size] & (query >= key)

    compiles = q.device.type == "cuda"
    mask = create_block_mask(is_seen, 1, q.shape[1], q.shape[2], k.shape[2], device=q.device,
                             BLOCK_SIZE=FLEX_TILE, _compile=compiles)
    flex = torch.compile(flex_attention) if compiles else flex_attention
    return lambda: flex(q, k, v, block_mask=mask, enable_gqa=True)


def scaled_dot_product_of(torch, backend, q, k, v, causal):
    from torch.nn.attention import sdpa_kernel

    def run():
        with sdpa_kernel(backend):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal,
                                                             enable_gqa=True)

    return run


def measure(torch, args):
    from torch.nn.attention import SDPBackend

    device = torch.device(args.device)
    kernels = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    if device.type == "cpu":
        kernels = {"flash": SDPBackend.FLASH_ATTENTION}
    results = []

    def add(entry, make):
        try:
            entry["seconds"] = seconds_of(torch, device, make(), args.repetitions)
        except (RuntimeError, NotImplementedError, ImportError) as error:  # a kernel that is not there
            entry["left_out"] = str(error).strip().splitlines()[0][:300]
        results.append(entry)

    for tokens in args.tokens:
        torch.manual_seed(1)
        def normal(heads, count):
            return torch.randn(1, heads, count, HEAD_DIM, device=device).to(torch.bfloat16)
        q, k, v = normal(HEADS, tokens), normal(KV_HEADS, tokens), normal(KV_HEADS, tokens)
        newest = q[:, :, -1:]
        for name, kernel in kernels.items():
            add({"peer": f"sdpa {name}", "tokens": tokens, "phase": "prefill"},
                lambda: scaled_dot_product_of(torch, kernel, q, k, v, True))
            add({"peer": f"sdpa {name}", "tokens": tokens, "phase": "decode"},
                lambda: scaled_dot_product_of(torch, kernel, newest, k, v, False))
        for block_size, top_k in args.blocks:
            entry = {"peer": "flex_attention", "tokens": tokens, "phase": "prefill",
                     "block_size": block_size, "top_k": top_k}
            if tokens % block_size or HEADS * tokens * (tokens // block_size) > args.max_mask_bytes:
                results.append(entry | {"left_out": "its selection as a mask is too large"})
                continue
            add(entry, lambda: flex_attention_of(torch, q, k, v, block_size, top_k))
    return results


def numbers(text):
    return [int(word) for word in text.split(",")]


def pairs(text):
    return [tuple(int(part) for part in word.split(":")) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=numbers, default=[8192, 32768, 131072])
    parser.add_argument("--blocks", type=pairs, default=[(4096, 12), (2048, 3), (512, 3), (128, 8)])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--max-mask-bytes", type=int, default=8 << 30)
    args = parser.parse_args()
    report = {"shape": {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM}}
    try:
        import torch
    except ImportError as error:
        report["left_out"] = f"PyTorch: {error}"
    else:
        report["torch"] = torch.__version__
        if args.device.startswith("cuda") and not torch.cuda.is_available():
            report["left_out"] = "this PyTorch sees no GPU"
        else:
            report["results"] = measure(torch, args)
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
