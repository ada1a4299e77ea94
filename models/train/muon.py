"""Muon (Jordan et al., 2024): momentum, orthogonalised by a Newton-Schulz iteration."""

import torch
import torch.distributed as dist
from torch import Tensor


def orthogonal(update: Tensor, steps: int = 5) -> Tensor:
    x = update.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.float().norm() + 1e-7).bfloat16()
    for _ in range(steps):
        a = x @ x.t()
        x = 3.4445 * x + (2.0315 * (a @ a) - 4.7750 * a) @ x
    return (x.t() if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Every process keeps all momenta and orthogonalises its share of the updates."""

    def __init__(self, params, shares, momentum: float = 0.95, decay: float = 0.2):
        """`shares` of the learning rate, one for each parameter."""
        super().__init__(params, {"lr": 0.0, "momentum": momentum, "decay": decay})
        self.shares = shares

    @torch.no_grad()
    def step(self) -> None:
        rank, world = dist.get_rank(), dist.get_world_size()
        for group in self.param_groups:
            weights = group["params"]
            updates = [torch.zeros_like(weight) for weight in weights]
            for index, weight in enumerate(weights):
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                if index % world == rank:
                    updates[index] = orthogonal(weight.grad + group["momentum"] * momentum)
            flat = torch.cat([update.flatten() for update in updates])
            if world > 1:
                dist.all_reduce(flat)
            parts = flat.split([weight.numel() for weight in weights])
            for weight, part, share in zip(weights, parts, self.shares):
                gain, rate = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5, share * group["lr"]
                weight.mul_(1.0 - rate * group["decay"])
                weight.add_(part.view_as(weight), alpha=-gain * rate)
