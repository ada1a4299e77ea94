"""Trains the bundled model: short sequences first, then longer ones under the MoBA mask.

Seeded and resumable. One process per thread, each with its share of every step's sequences: on
shared cores this is twice as fast as one process with threads inside every product.
"""

import argparse
import collections
import contextlib
import copy
import dataclasses
import pathlib
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import beginning
import data
from attention import extension
from model import Bank, Config, Model, Routing
from muon import Muon

AUXILIARY = {
    "track": 0.03,
    "seek": 0.3,
    "quiet": 0.5,
    "point": 0.5,
    "echo": 0.2,
    "chain": 0.2,
    "gather": 0.6,
    "offset": 0.01,
}  # weights of the routing losses


@dataclasses.dataclass(frozen=True)
class Stage:
    steps: int
    sequences: int
    tokens: int
    force: float  # share of queries that get their wanted block whatever the gate says
    rate: tuple[float, float]  # learning rate of Muon at the first and the last step
    bank: tuple[int, int] = (512, 3584)  # blocks with facts, blocks of filler
    queries: int = 192
    seekers_only: bool = False  # their queries and keys alone learn, and look at any distance
    smooth: float = 0.01  # of every step's weights in their running mean, which is exported


STAGES = [
    Stage(500, 16, 512, 1.0, (0.01, 0.007), queries=128),
    Stage(3400, 4, 2048, 0.4, (0.007, 0.0003)),
    Stage(430, 4, 4096, 0.2, (0.0025, 0.0002)),
    Stage(2600, 3, 4096, 0.2, (0.005, 0.0002), queries=320),
    Stage(600, 3, 8192, 0.1, (0.005, 0.0002), queries=448),
    Stage(260, 3, 4096, 0.2, (0.002, 0.0002), (512, 15872), 320, seekers_only=True, smooth=0.02),
]
MOST_PROCESSES = min(stage.sequences for stage in STAGES)


def schedule(step: int, warm_up: int = 20) -> tuple[Stage, float]:
    for stage in STAGES:
        if step < stage.steps:
            first, last = stage.rate
            rate = first + (last - first) * step / stage.steps
            return stage, rate * min(1.0, (step + 1) / warm_up) if stage is STAGES[0] else rate
        step -= stage.steps
    raise IndexError(step)


class Batches(torch.utils.data.Dataset):
    """The sequences of every step that belong to one process."""

    def __init__(self, corpus: data.Corpus, args: argparse.Namespace, block: int):
        self.corpus, self.args, self.block = corpus, args, block
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        stage, _ = schedule(step)
        built = [
            data.build(self.corpus, f"{self.args.seed}-{step}-{i}", stage.tokens, self.block)
            for i in range(self.rank, stage.sequences, self.world)
        ]
        return {
            field.name: torch.from_numpy(np.stack([getattr(x, field.name) for x in built]))
            for field in dataclasses.fields(data.Sequence)
        }


def loss_of(model: Model, x: dict, stage: Stage, bank: Bank, log: collections.Counter):
    routing = Routing(
        x["source"],
        x["echo"],
        x["gather"],
        x["position"],
        x["near"],
        x["weight"] == 1,
        stage.force,
        stage.queries,
        bank,
    )
    with torch.autocast(x["ids"].device.type, dtype=torch.bfloat16):
        hidden = model(x["ids"], x["position"], routing)
        weight = x["weight"][:, 1:]
        kept = (weight == 1) | ((weight > 0) & (torch.rand_like(weight) < 0.15))
        logits = model.logits(hidden[:, :-1][kept])
    target, weight = x["ids"][:, 1:][kept], weight[kept]
    nll = F.cross_entropy(logits, target, reduction="none")
    right, answer = logits.argmax(-1) == target, weight == 1
    source = x["source"][:, :-1]
    copied = (source >= 0)[kept]
    first = (source >= 0) & (F.pad(source[:, :-1], (1, 0), value=-1) != source - 1)
    weight = weight * (1 + 2 * copied)
    loss = (nll * weight).sum() / weight.sum()
    log["first"] += right[first[kept]].float().mean().item()
    log["filler"] += nll[~answer].mean().item()
    log["answer"] += right[answer].float().mean().item()
    log["value"] += right[copied].float().mean().item()
    for name, parts in routing.losses.items():
        mean = torch.stack(parts).mean()
        log[name] += mean.item()
        loss = loss + AUXILIARY.get(name, 0.0) * mean
    return loss


def average_gradients(model: Model) -> None:
    if dist.get_world_size() == 1:
        return
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(part.view_as(grad) / dist.get_world_size())


def gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of every process."""
    if dist.get_world_size() == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


@contextlib.contextmanager
def held(model: Model, learning: dict[torch.Tensor, torch.Tensor] | None):
    """Leaves everything as it is but what of each parameter is `learning`; None: leaves nothing."""
    if learning is None:
        yield
        return
    nothing = torch.zeros(1, dtype=torch.bool)
    parts = [(p, learning.get(p, nothing.to(p.device)), p.detach().clone()) for p in model.parameters()]
    for weight, part, _ in parts:
        weight.grad *= part
    yield
    with torch.no_grad():
        for weight, part, before in parts:
            weight.copy_(torch.where(part, weight, before))


def run(rank: int, args: argparse.Namespace, rendezvous: str) -> None:
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=args.processes)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    config, device = Config(), args.device
    corpus, model = data.Corpus(args.data, "train"), Model(config).to(device)
    matrices = [(n, p) for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    # Every update of Muon is equally large, also where there is nothing left to learn: none there.
    settled = ("layers.0.attention.q_proj", "layers.0.attention.k_proj")
    shares = [0.0 if name.startswith(settled) else 1.0 for name, _ in matrices]
    muon = Muon([weight for _, weight in matrices], shares)
    norms = [p for p in model.parameters() if p.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": [model.embed.weight], "share": 0.3}, {"params": norms, "share": 0.2}],
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    start, bank, smooth = 0, Bank(config, (0, 0), device), copy.deepcopy(model)
    if args.out.exists():
        saved = torch.load(args.out, map_location=device)
        model.load_state_dict(saved["model"])
        smooth.load_state_dict(saved.get("smooth", saved["model"]))
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        start = saved["step"]
        bank.kinds = saved["bank"]
    torch.manual_seed(args.seed + 1000 * start + rank)
    generator = torch.Generator().manual_seed(args.seed + 1000 * start + rank)
    log, seeking, far = collections.Counter(), model.seeking(), False
    begin, seen = time.monotonic(), 0
    steps = range(start, args.stop)
    loader = torch.utils.data.DataLoader(
        Batches(corpus, args, config.block), None, sampler=steps, num_workers=args.workers
    )
    for step, x in zip(steps, loader):
        stage, rate = schedule(step)
        for group in muon.param_groups:
            group["lr"] = rate
        for group in adam.param_groups:
            group["lr"] = group["share"] * rate
        if stage.seekers_only and not far:
            before = args.out.with_stem(f"{args.out.stem}-near")
            if rank == 0 and not before.exists():  # export.py takes the mean of both
                torch.save({"model": smooth.state_dict(), "config": dataclasses.asdict(config)}, before)
            for weights in (model, smooth):
                weights.look_at_any_distance()
        far = stage.seekers_only
        x = {name: tensor.to(device) for name, tensor in x.items()}
        bank.size = stage.bank
        bank.move(data.END_POSITION, generator)
        share = len(x["ids"]) * args.processes / stage.sequences
        (share * loss_of(model, x, stage, bank, log)).backward()
        average_gradients(model)
        with held(model, seeking if stage.seekers_only else None):
            model.embed.weight.grad[:, beginning.CONSTANT] = 0.0
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in (muon, adam):
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for slow, fast in zip(smooth.parameters(), model.parameters()):
                slow.lerp_(fast, stage.smooth)
        plain = torch.cat(gather(x["plain"].flatten().to(torch.uint8))).bool()
        bank.push(torch.cat(gather(model.block_inputs()), 1), plain)
        seen += stage.sequences * stage.tokens
        if rank > 0:
            continue
        if (step + 1) % 10 == 0:
            text = " ".join(f"{name} {total / 10:.3f}" for name, total in log.items())
            speed = seen / (time.monotonic() - begin)
            print(f"{step + 1} T={stage.tokens} {text} tok/s {speed:.0f}", flush=True)
            log.clear()
        if (step + 1) % 25 == 0 or step + 1 == args.stop:
            state = {
                "model": model.state_dict(),
                "smooth": smooth.state_dict(),
                "muon": muon.state_dict(),
                "adam": adam.state_dict(),
                "step": step + 1,
                "config": dataclasses.asdict(config),
                "bank": bank.kinds,
            }
            torch.save(state, args.out.with_suffix(".tmp"))
            args.out.with_suffix(".tmp").rename(args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        help="checkpoint; training resumes from it if it is there",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--processes", type=int, help=f"{MOST_PROCESSES} on a CPU, which is the most; a GPU has one"
    )
    parser.add_argument("--workers", type=int, help="that build sequences for a GPU; 8")
    parser.add_argument("--stop", type=int, default=sum(stage.steps for stage in STAGES))
    args = parser.parse_args()
    on_cpu = args.device == "cpu"
    args.processes = args.processes or (MOST_PROCESSES if on_cpu else 1)
    if not 1 <= args.processes <= MOST_PROCESSES:
        parser.error(f"--processes: 1 to {MOST_PROCESSES}, each needs a sequence of every step")
    args.workers = 0 if on_cpu else args.workers or 8
    if on_cpu:
        extension()  # compiled once, before the processes start
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run, (args, f"{folder}/rendezvous"), args.processes)


if __name__ == "__main__":
    main()
