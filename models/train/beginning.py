"""The weights to begin with: what is known of the circuits beforehand.

Heads that look one to four tokens back, a gate on the block before, slots of the residual stream
for what those heads bring, heads that copy what followed the like of the present token. Training
starts from a model that repeats, and spends its steps on what has to be learnt: which words of a
sentence name a fact, and a key that tells this fact from its rivals.
"""

import math

import torch
from torch import Tensor, nn

CONSTANT, TOKEN = slice(0, 16), slice(16, 144)  # of the residual stream; the token's own code
SLOTS = [slice(144 + 48 * i, 192 + 48 * i) for i in range(4)]  # the codes of the four before
HASH = slice(192, 384)  # where the second layer adds what it gathers
CODE_STD = 0.7
# Rotary pairs and the attention logits that they give: to tell the offsets of one sentence apart,
# to tell the block before from millions of tokens before. Where one pair has turned full circle
# (the third after 471 tokens) the next one has to tell, by more than the block before has lost.
NEAR = {0: 40.0, 1: 20.0, 2: 12.0} | dict.fromkeys(range(3, 8), 8.0)
FAR = dict.fromkeys(range(2, 8), 5.0)
BEFORE = 48.0  # tokens back, where gates look: the block before begins 1 to 64 tokens before
STILL = 8  # and from this one on they hardly turn at all


def orthonormal(rows: int, columns: int) -> Tensor:
    weight = torch.empty(rows, columns)
    nn.init.orthogonal_(weight)
    return weight


def hardly_turns(head_dim: int) -> Tensor:
    """bool [head_dim]: the dimensions that can match content at any distance."""
    return torch.arange(head_dim) % (head_dim // 2) >= STILL


def write_position(q: Tensor, k: Tensor, offsets: list[float | None], theta: float, rms: float):
    """Constant parts of q [heads,d,dim] and k [groups,d,dim]: offsets to look at, and the gate.

    The slower pairs find the block before, and must all agree there, or some of 16,000 blocks that
    agree by chance come first.
    """
    half = q.shape[1] // 2
    unit = 1 / ((CONSTANT.stop - CONSTANT.start) / rms)
    near = any(offset for offset in offsets)
    for pair, logit in (NEAR if near else FAR).items():
        size = math.sqrt(logit * math.sqrt(2 * half)) * unit
        k[:, pair, CONSTANT] = size
        turn = theta ** (-pair / half)
        for head, offset in enumerate(offsets):
            if offset is not None:
                offset = offset if near else BEFORE
                q[head, pair, CONSTANT] = size * math.cos(offset * turn)
                q[head, pair + half, CONSTANT] = -size * math.sin(offset * turn)


@torch.no_grad()
def write(model: nn.Module, config) -> None:
    d, dim = config.head_dim, config.dim
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            out = "o_proj" in name or "down_proj" in name
            nn.init.normal_(weight, std=0.0 if out else 0.5 * dim**-0.5)
        if "gate_proj" in name or "up_proj" in name:
            nn.init.normal_(weight, std=dim**-0.5)
    model.embed.weight.zero_()
    model.embed.weight[:, CONSTANT] = 1.0
    code = torch.randn(len(model.embed.weight), TOKEN.stop - TOKEN.start)
    model.embed.weight[:, TOKEN] = CODE_STD * code / code.square().mean(-1, keepdim=True).sqrt()
    nn.init.constant_(model.norm.weight, 0.1)

    still = hardly_turns(d)
    moving, num_still = ~still, int(still.sum())
    code = orthonormal(num_still, d)  # of half a token's code
    likeness = orthonormal(num_still, dim - HASH.start)
    for number, layer in enumerate(model.layers):
        a = layer.attention
        q, k = a.q_proj.weight.view(-1, d, dim), a.k_proj.weight.view(-1, d, dim)
        v, o = a.v_proj.weight.view(-1, d, dim), a.o_proj.weight.view(dim, -1, d)
        q[:, moving], k[:, moving], k[..., CONSTANT] = 0.0, 0.0, 0.0
        rms = 0.45 if number == 0 else 0.67
        near = [0 if head in a.trackers else None for head in range(config.heads)]
        offsets = [1, 2, 3, 4] if number == 0 else near
        write_position(q, k, offsets, config.theta, rms)
        if number == 0:
            v.zero_()
            for group in range(2):
                v[group, :, 16 + 64 * group : 80 + 64 * group] = torch.eye(d)
            for head, slot in enumerate(SLOTS):
                o[slot, head] = 0.45 * code
        elif number == 1:
            v.zero_()
            v[0, :24, TOKEN] = orthonormal(24, 128)
            for i, slot in enumerate(SLOTS):
                v[0, 24 + 10 * i : 34 + 10 * i, slot] = orthonormal(10, 48)
                v[1, 16 * i : 16 * i + 16, slot] = orthonormal(16, 48)
            for head, rows in enumerate((slice(24, 64), slice(0, 24), slice(0, 64), slice(0, 64))):
                o[HASH, head, rows] = 0.5 * orthonormal(192, rows.stop - rows.start)
        else:
            k[:, still, SLOTS[0]] += 1.2 * torch.eye(num_still)
            q[:, still, 16:80] += 1.2 * code
            k[0, still, HASH] += 0.5 * likeness
            q[:2, still, HASH] += 0.5 * likeness
            v.zero_()
            for group in range(2):
                first = 16 + 64 * ((group + number) % 2)
                v[group, :, first : first + 64] = torch.eye(d)
                o[first : first + 64, 2 * group : 2 * group + 2] = (
                    (0.4 if number == 2 else 0.7) * torch.eye(d)[:, None]
                )
