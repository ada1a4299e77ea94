"""Exact MoBA attention with gradients: a gate on block centroids, then block-sparse softmax.

`sparse_attention` is the one operator of the recipe that PyTorch lacks. On a CPU it is compiled
from moba_op.cpp on first use; elsewhere a masked dense product computes the same thing.
"""

import functools
import pathlib

import torch
from torch import Tensor

NEVER, ALWAYS = -1e30, 1e30


@functools.cache
def extension():
    from torch.utils import cpp_extension

    source = pathlib.Path(__file__).with_name("moba_op.cpp")
    return cpp_extension.load(
        "moba_op", [str(source)], extra_cflags=["-O3", "-march=native", "-fopenmp", "-std=c++20", "-ffast-math"]
    )


class _SparseAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, sel: Tensor, block: int):
        out, lse, *tiles = extension().forward(q, k, v, sel, block)
        ctx.save_for_backward(q, k, v, out, *tiles)
        ctx.block = block
        return out, lse

    @staticmethod
    def backward(ctx, dout: Tensor, dlse: Tensor):
        q, k, v, out, *tiles = ctx.saved_tensors
        delta = (dout * out).sum(-1) - dlse
        dq, dk, dv = extension().backward(q, k, v, dout.contiguous(), delta, tiles, ctx.block)
        return dq, dk, dv, None, None


def masked_attention(q: Tensor, k: Tensor, v: Tensor, sel: Tensor, block: int):
    """The same as sparse_attention through one dense product; the reference of its test."""
    tokens, ratio = q.shape[1], q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = k.repeat_interleave(ratio, 1), v.repeat_interleave(ratio, 1)
    index = torch.arange(tokens, device=q.device)
    own = index[:, None] // block == index[None, :] // block
    seen = (sel.repeat_interleave(block, -1) | own) & (index[None, :] <= index[:, None])
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen, NEVER)
    out = scores.softmax(-1).to(v.dtype) @ v
    return out.transpose(1, 2), scores.logsumexp(-1).transpose(1, 2)


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, sel: Tensor, block: int):
    """q [S,T,H,d], k, v [S,T,G,d], sel [S,H,T,T/block] of strictly past blocks -> out, lse."""
    if q.device.type == "cpu":
        return _SparseAttention.apply(q, k, v, sel, block)
    return masked_attention(q, k, v, sel, block)


def centroids(k: Tensor, block: int) -> Tensor:
    """Mean key of every block: [S,T,G,d] -> [S,G,T/block,d]."""
    s, t, g, d = k.shape
    return k.view(s, t // block, block, g, d).mean(2).transpose(1, 2)


def select(
    q: Tensor, cent: Tensor, block: int, top_k: int | Tensor, forced: Tensor | None
) -> Tensor:
    """The top_k - 1 past blocks of every (head, token), and the forced ones: bool [S,H,T,n].

    `top_k`: of all tokens, or [S,T] of each.
    """
    tokens, blocks = q.shape[1], cent.shape[2]
    cent = cent.repeat_interleave(q.shape[2] // cent.shape[1], 1)
    index = torch.arange(tokens, device=q.device)[:, None] // block
    past = torch.arange(blocks, device=q.device)[None, :] < index
    top_k = torch.as_tensor(top_k, device=q.device)
    if blocks <= top_k.min():
        return past.expand(q.shape[0], q.shape[2], tokens, blocks).contiguous()
    scores = q.transpose(1, 2) @ cent.transpose(-1, -2)
    if forced is not None:
        scores = scores.masked_fill(forced, ALWAYS)
    scores = scores.masked_fill(~past, NEVER)
    most = min(int(top_k.max()), blocks)
    chosen = scores.topk(most - 1, -1).indices
    among = torch.arange(most - 1, device=q.device) < (top_k - 1).view(*top_k.shape, 1)
    among = among[:, None] if top_k.dim() else among
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, among.expand_as(chosen)) & past
