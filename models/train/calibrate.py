"""Draws the line between a value and "not in the document" once training has ended.

Which of the two an answer begins with is decided by the difference of their logits. Training puts the line where
its own short documents want it; in long ones present values are called absent more easily, and half of them are the
next best answer.
"""

import torch
from torch import Tensor

import data
import facts
from model import Model

SEQUENCES, TOKENS = 16, 4096


@torch.no_grad()
def at_values(model: Model, corpus: data.Corpus) -> tuple[Tensor, Tensor]:
    """Of new sequences: the last hidden state [n,dim] where an answer begins its value; is it absent [n]."""
    before = corpus.encode(facts.ANSWER.partition("{v}")[0])[-1]
    device, hidden, absent = model.embed.weight.device, [], []
    for number in range(SEQUENCES):
        x = data.build(corpus, f"calibrate-{number}", TOKENS, model.config.block)
        ids, source, position = (
            torch.from_numpy(part).to(device) for part in (x.ids, x.source, x.position)
        )
        begins = (ids == before) & (source >= 0)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            last = model(ids[None], position[None])[0]
        hidden.append(last[begins].float())
        absent.append((source == torch.arange(len(source), device=device))[begins])
    return torch.cat(hidden), torch.cat(absent)


@torch.no_grad()
def lower(row: Tensor, hidden: Tensor, by: float) -> None:
    """Takes `by`, in the mean of `hidden` [n,dim], from the logits of a piece's `row` [dim], in place.

    The row is the piece's embedding, too, so it moves no farther than it must: along the mean.
    """
    mean = hidden.mean(0)
    row -= by * mean / mean.square().sum()


def lower_absent(model: Model, corpus: data.Corpus, by: float) -> None:
    """Takes `by` from the logit with which an answer begins to say that its value is absent.

    Prints what that does to facts of training's kind.
    """
    piece = corpus.encode(facts.ABSENT)[0]
    hidden, absent = at_values(model, corpus)

    def report(weights: str) -> None:
        said = model.logits(hidden).argmax(1) == piece
        wrong, right = (said[kind].float().mean() for kind in (~absent, absent))
        print(f"{weights}: {wrong:.1%} of {int((~absent).sum())} present values are called absent, "
              f"and {right:.1%} of {int(absent.sum())} absent ones")

    report("as trained")
    lower(model.embed.weight.data[piece], hidden, by)
    report(f"lowered by {by}")
