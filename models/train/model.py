"""A plain Llama whose attention is MoBA, with the losses that teach its heads where to route.

Routing is supervised, inference is not changed by it. Lower layers, and the upper layers' other
heads, are taught to select the block before their own; the first key-value group of the upper
layers is taught to select the block where the answer stands, among all blocks of its sequence and a
bank of blocks from earlier steps that are put at random distances: a short sequence then competes
with as many blocks as a long one.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import beginning
import data
from attention import centroids, select, sparse_attention


# Of the loss `seek`, for scores in standard deviations of the rivals' scores: neither a larger scale
# nor a common offset of all keys makes it smaller.
SHARPNESS = 3.0

# What all blocks have in common says nothing, but bf16 has to hold it: the mean of the rivals may
# be this many standard deviations from zero.
OFFSET = 24.0

# Of the loss `quiet`: nothing is gained by a ratio of energies below exp(-this).
QUIET = 6.5

# Of the loss `track`, for scores in units of the block's summed attention logits.
TRACK_SCALE = 0.02
TRACK_RIVALS = 8192  # of `track`, which meets every block of the bank at several places

# Tokens far away that heads which look nearby must not mistake for near ones. Half of a turning
# pair's phases look near at some distance, and a long document has a block at each.
FAR_TOKENS, FAR = 2048, 256


@dataclasses.dataclass(frozen=True)
class Config:
    vocab: int = 4096
    dim: int = 384
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    theta: float = 1e30
    block: int = 64
    top_k: int = 8
    decode_top_k: int = 64  # of answers' tokens, which are few: eight times the blocks cost nothing


@dataclasses.dataclass
class Routing:
    """What the routing losses of one step need; `losses` collects them by name."""

    source: Tensor  # int64 [S,T], as in data.Sequence
    echo: Tensor
    gather: Tensor  # int64 [S,T,4]
    position: Tensor  # int64 [S,T]
    near: Tensor  # bool [S,T/block]
    answer: Tensor  # bool [S,T], the tokens that a server would generate
    force: float  # share of queries whose wanted block is selected whatever the gate says
    num_queries: int
    bank: "Bank"
    losses: dict[str, list[Tensor]] = dataclasses.field(default_factory=dict)

    def from_end(self, query: Tensor, s: Tensor, t: Tensor, config: Config) -> Tensor:
        """Queries [n,heads,d] of the tokens (s, t), turned to the end of the bank."""
        cos, sin = (x[:, None] for x in rope_table(self.bank.end - self.position[s, t], config))
        return rotate(query, cos, sin)

    def add(self, name: str, loss: Tensor) -> None:
        self.losses.setdefault(name, []).append(loss)


def rope_table(position: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float64, device=position.device)
    angle = position.double()[..., None] * config.theta ** (-pair / config.head_dim)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Bank:
    """What the blocks of past steps had as input of every layer, about their step's mean.

    Keys are made of it with today's weights and today's mean. A bank of yesterday's keys loses
    against larger or shifted ones whatever they say, and larger and shifted they would become.
    Blocks with facts or questions and blocks of nothing but filler have a share each, so that their
    ratio is that of long documents and not that of training sequences.
    """

    def __init__(self, config: Config, size: tuple[int, int], device: str = "cpu"):
        self.config, self.size = config, size
        self.kinds = [
            torch.zeros(config.layers, 0, config.dim, dtype=torch.bfloat16, device=device)
            for _ in size
        ]

    def push(self, inputs: Tensor, plain: Tensor) -> None:
        """inputs [layers,n,dim]: the mean input of every block of a step; plain [n]: is filler."""
        inputs = (inputs - inputs.mean(1, keepdim=True)).bfloat16()
        for kind, (wanted, size) in enumerate(zip((~plain, plain), self.size)):
            self.kinds[kind] = torch.cat((inputs[:, wanted], self.kinds[kind]), 1)[:, :size]

    def move(self, end: int, generator: torch.Generator) -> None:
        """Puts every block at random distances before `end`, behind the last two blocks."""
        count = sum(kind.shape[1] for kind in self.kinds)
        shape = 4 * -(-TRACK_RIVALS // (4 * max(count, 256))), count
        near = torch.exp(torch.rand(shape, generator=generator) * 9.0 + 5.5)
        far = torch.rand(shape, generator=generator)
        reach = torch.tensor([end, 1 << 20, 1 << 20, 1 << 17])[:, None]
        reach = reach.repeat(shape[0] // 4, 1)
        distance = torch.where(torch.rand(shape, generator=generator) < 0.4, near, 200 + far * reach)
        self.place(end, end - distance)

    def place(self, end: int, start: Tensor) -> None:
        """Lets the blocks begin at `start` [turns,n]; a query meets them as if it stood at `end`."""
        c, self.end = self.config, end
        self.turn = rope_table(start.to(self.kinds[0].device) + (c.block - 1) / 2, c)
        half_step = 0.5 * c.theta ** (-torch.arange(0, c.head_dim, 2).double() / c.head_dim)
        shrunk = (c.block * half_step).sin() / (c.block * half_step.sin())  # a mean over turns
        self.shrunk = shrunk.float().repeat(2).to(self.kinds[0].device)

    def centroids(self, layer: int, mean: Tensor, weight: Tensor, turns: int | None) -> Tensor:
        """[turns,n,d]: by a key projection [d,dim], for the mean input; turns None: all places."""
        inputs = torch.cat([kind[layer] for kind in self.kinds])
        keys = ((inputs.float() + mean) @ weight.t()) * self.shrunk
        return rotate(keys, *(x[:turns] for x in self.turn))


def pick(wanted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` random places where `wanted` is true."""
    s, t = wanted.nonzero(as_tuple=True)
    order = torch.randperm(len(s), device=s.device)[:count]
    return s[order], t[order]


def rounded(x: Tensor) -> Tensor:
    """As bf16 holds it, for a gradient that does not know."""
    return x + (x.bfloat16().float() - x).detach()


class Norm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-5)


class Attention(nn.Module):
    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        dim, q, kv = config.dim, config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, n, False) for n in (q, kv, kv))
        self.o_proj = nn.Linear(q, dim, False)
        ratio, upper = config.heads // config.kv_heads, layer >= config.layers // 2
        self.seekers = list(range(ratio)) if upper else []
        self.trackers = [h for h in range(config.heads) if h not in self.seekers]

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, routing: Routing | None) -> Tensor:
        c, (s, t, _) = self.config, x.shape
        q, k, v = (
            p(x).view(s, t, -1, c.head_dim).float() for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        still, q, k = k, rotate(q, cos, sin), rotate(k, cos, sin)
        with torch.autocast(x.device.type, enabled=False):
            cent = rounded(centroids(k, c.block))
            forced = self.wanted_blocks(routing, t) if routing else None
            with torch.no_grad():
                top_k = torch.where(routing.answer, c.decode_top_k, c.top_k) if routing else c.top_k
                sel = select(q, cent, c.block, top_k, forced)
            out, lse = sparse_attention(q, k, v, sel, c.block)
            if routing:
                self.pooled = x.float().view(s, t // c.block, c.block, -1).mean(2)
                self.add_losses(routing, q, k, cent, sel, lse, self.far_keys(routing, still))
                if self.seekers:
                    self.quiet_loss(routing, still[:, :, self.seekers[0]])
        return self.o_proj(out.flatten(2))

    def wanted_blocks(self, routing: Routing, tokens: int) -> Tensor | None:
        if routing.force == 0:
            return None
        c, source = self.config, routing.source
        shape, device = (len(source), c.heads, tokens, tokens // c.block), source.device
        forced = torch.zeros(shape, dtype=torch.bool, device=device)
        lucky = torch.rand(source.shape, device=device) < routing.force
        far = torch.arange(tokens, device=device) >= c.block
        s, t = (lucky & far).nonzero(as_tuple=True)
        for head in self.trackers:
            forced[s, head, t, t // c.block - 1] = True
        s, t = (lucky & (source >= 0)).nonzero(as_tuple=True)
        for head in self.seekers:
            forced[s, head, t, source[s, t] // c.block] = True
        return forced

    def far_keys(self, routing: Routing, still: Tensor) -> Tensor:
        """[n,G,d]: keys of any tokens of the sequences, put at random distances before the bank's end."""
        keys = still.flatten(0, 1)
        keys = keys[torch.randint(len(keys), (FAR_TOKENS,), device=keys.device)]
        reach = math.log(data.END_POSITION / FAR)
        distance = FAR * torch.exp(reach * torch.rand(FAR_TOKENS, device=keys.device))
        cos, sin = rope_table(routing.bank.end - distance, self.config)
        return rotate(keys, cos[:, None], sin[:, None])

    def add_losses(
        self,
        routing: Routing,
        q: Tensor,
        k: Tensor,
        cent: Tensor,
        sel: Tensor,
        lse: Tensor,
        far_keys: Tensor,
    ) -> None:
        c, source, num = self.config, routing.source, routing.num_queries
        own = torch.arange(source.shape[1], device=source.device) // c.block
        s, t = pick(routing.near[:, own] & (own > 0), 500)
        if self.layer == 0:  # looks one to four tokens back, and its gate is fixed
            for head in range(4):
                self.point_loss(routing, "chain", [head], q, k, sel, lse, s, t, t - 1 - head)
        else:
            s, t = s[: num // 12], t[: num // 12]
            self.gate_loss(routing, "track", self.trackers, q, cent, s, t, own[t] - 1)
        if self.layer == 1:  # the hash of a value: its attribute, its entity
            for head in range(4):
                s, t = (routing.gather[..., head] >= 0).nonzero(as_tuple=True)
                at = routing.gather[s, t, head]
                self.point_loss(routing, "gather", [head], q, k, sel, lse, s, t, at, far_keys)
        if not self.seekers:
            return
        s, t = pick((source >= 0) & (source // c.block < own), num)
        if len(s):
            self.gate_loss(routing, "seek", self.seekers, q, cent, s, t, source[s, t] // c.block)
        s, t = (source >= 0).nonzero(as_tuple=True)
        self.point_loss(routing, "point", self.seekers, q, k, sel, lse, s, t, source[s, t])
        s, t = (routing.echo >= 0).nonzero(as_tuple=True)
        at = routing.echo[s, t]
        self.point_loss(routing, "echo", self.trackers, q, k, sel, lse, s, t, at, far_keys)

    def quiet_loss(self, routing: Routing, k: Tensor) -> None:
        """What a block's keys sum up to where no value stands, against where one does.

        A block's mean holds all keys. Left alone, the tokens behind a fact repeat what it is about:
        a fact at the end of a block is then found in the next one.
        """
        loud = (routing.gather[..., 0] >= 0)[..., None]
        k = k - (k * ~loud).sum((0, 1)) / (~loud).sum()
        noise, signal = (
            (k * part).unflatten(1, (-1, self.config.block)).sum(2).square().sum(-1)
            for part in (~loud, loud)
        )
        if loud.any():
            ratio = noise.mean() / signal[signal > 0].mean()
            routing.add("quiet", F.relu(ratio.log() + QUIET))

    def point_loss(
        self,
        routing: Routing,
        name: str,
        heads: list[int],
        q: Tensor,
        k: Tensor,
        sel: Tensor,
        lse: Tensor,
        s: Tensor,
        t: Tensor,
        at: Tensor,
        far_keys: Tensor | None = None,
    ) -> None:
        """Cross-entropy of the attention of `heads` (one group) with token `at`, if it is seen.

        `far_keys` are seen beside what the gate selects, as gate_loss lets the bank be.
        """
        c = self.config
        group = heads[0] * c.kv_heads // c.heads
        seen = sel[s, :, t, at // c.block][:, heads] | (at // c.block == t // c.block)[:, None]
        query, total = q[s, t][:, heads] * c.head_dim**-0.5, lse[s, t][:, heads]
        score = (query * k[s, at, group][:, None]).sum(-1)
        if far_keys is not None:
            rest = routing.from_end(query, s, t, c) @ far_keys[:, group].t()
            near, total = total, torch.logaddexp(total, rest.logsumexp(-1))
            routing.add(name + "@far", (total - near >= 0.05).float().mean().detach())
        log_prob = (score - total) * seen
        routing.add(name, -log_prob.sum() / seen.sum().clamp(min=1))

    def gate_loss(
        self,
        routing: Routing,
        name: str,
        heads: list[int],
        q: Tensor,
        cent: Tensor,
        s: Tensor,
        t: Tensor,
        block: Tensor,
    ) -> None:
        """Cross-entropy of the wanted block among the past blocks of the sequence and the bank.

        The bank lies before its `end`; a query meets it as if it stood there.
        """
        c, ratio = self.config, self.config.heads // self.config.kv_heads
        past = torch.arange(cent.shape[2], device=t.device)[None] < (t // c.block)[:, None]
        mean = self.pooled.mean((0, 1))
        weight = self.k_proj.weight.view(c.kv_heads, c.head_dim, -1)
        for group in sorted({head // ratio for head in heads}):
            mine = [head for head in heads if head // ratio == group]
            query = rounded(q[s, t][:, mine])
            scores = torch.einsum("qhd,qnd->qhn", query, cent[s, group])
            turns = None if name == "track" else 1
            rivals = routing.bank.centroids(self.layer, mean, weight[group], turns).flatten(0, 1)
            rest = routing.from_end(query, s, t, c) @ rivals.t()
            if name == "track":
                scale, shift = TRACK_SCALE * c.block, 0.0
            elif rest.shape[-1] < 256:
                continue
            else:
                spread, shift = torch.std_mean(rest, -1, keepdim=True)
                scale = SHARPNESS / (spread + 1e-3)
                routing.add("offset", F.relu(shift.abs() / (spread + 1e-3) - OFFSET).mean())
            scores, rest = (scores - shift) * scale, (rest - shift) * scale
            scores = scores.masked_fill(~past[:, None], -1e30)
            right = scores.gather(2, block[:, None, None].expand(-1, len(mine), 1)).squeeze(2)
            total = torch.cat((scores, rest), -1).logsumexp(-1)
            routing.add(name, (total - right).mean())
            better = (scores > right[..., None]).sum(-1) + (rest > right[..., None]).sum(-1)
            routing.add(name + "@k", (better < c.top_k - 1).float().mean().detach())


class Layer(nn.Module):
    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.input_norm, self.ffn_norm = Norm(config.dim), Norm(config.dim)
        self.attention = Attention(config, layer)
        self.gate_proj, self.up_proj = (nn.Linear(config.dim, config.ffn, False) for _ in range(2))
        self.down_proj = nn.Linear(config.ffn, config.dim, False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, routing: Routing | None) -> Tensor:
        return self.add_mlp(x + self.attention(self.input_norm(x), cos, sin, routing))

    def add_mlp(self, x: Tensor) -> Tensor:
        h = self.ffn_norm(x).to(torch.bfloat16)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.dim)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.layers))
        self.norm = Norm(config.dim)
        beginning.write(self, config)

    def forward(self, ids: Tensor, position: Tensor, routing: Routing | None = None) -> Tensor:
        cos, sin = (x[:, :, None] for x in rope_table(position, self.config))
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, cos, sin, routing)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return (hidden @ self.embed.weight.t()).float()

    @torch.no_grad()
    def look_at_any_distance(self) -> None:
        """Takes the turning pairs out of the seekers' queries: their scores then have no distance."""
        for layer in self.layers:
            a, d = layer.attention, self.config.head_dim
            query = a.q_proj.weight.view(-1, d, self.config.dim)
            for head in a.seekers:
                query[head, ~beginning.hardly_turns(d)] = 0.0

    def seeking(self) -> dict[Tensor, Tensor]:
        """Which rows of a parameter are the seekers' queries and keys, in pairs that hardly turn."""
        rows = {}
        for layer in self.layers:
            a, still = layer.attention, beginning.hardly_turns(self.config.head_dim)
            ratio = self.config.heads // self.config.kv_heads
            for weight, heads in (
                (a.q_proj.weight, a.seekers),
                (a.k_proj.weight, {head // ratio for head in a.seekers}),
            ):
                chosen = torch.zeros(len(weight) // len(still), len(still), dtype=torch.bool)
                for head in heads:
                    chosen[head] = still
                rows[weight] = chosen.view(-1, 1).to(weight.device)
        return rows

    def block_inputs(self) -> Tensor:
        """[layers,blocks,dim] of the last forward pass, for the bank."""
        return torch.stack([layer.attention.pooled.detach().flatten(0, 1) for layer in self.layers])
