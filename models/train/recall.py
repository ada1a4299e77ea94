"""Gate recall of an exported model: how often the block that holds the fact is among the selected.

    python models/train/recall.py --model models/quire-6m --filler held_out.txt --tokens 4096 65536

Reads a document with planted facts once, as the server does (MoBA in every layer), then every
question with its right answer behind it. A step counts where a token of the value is predicted: it is
found if a seeking head (model.py) of that layer, or of any, selected the value's block. A shuffled
gate would find (decode_top_k - 1) / blocks of them. --block and --top-k try other ways to read the
same model.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import struct
import time

import numpy as np
import sentencepiece as spm
import torch
from torch import Tensor

import facts
from data import find
from export import hugging_face_name
from model import Config, Model, rope_table, rotate

CHUNK = 256  # tokens, a multiple of every block size here


def load(folder: pathlib.Path) -> Model:
    config = json.loads((folder / "config.json").read_text())
    raw = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    model = Model(
        Config(block=config["moba"]["block_size"], top_k=config["moba"]["top_k"])
    )
    for name, weight in model.named_parameters():
        begin, end = header[hugging_face_name(name)]["data_offsets"]
        bits = np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype=np.int16).copy()
        weight.data = torch.from_numpy(bits).view(torch.bfloat16).float().view_as(weight)
    return model


class Reader:
    """A sequence and its cache; feeds tokens and keeps what the gate selected for the last ones."""

    def __init__(self, model: Model, room: int):
        c, self.model, self.length = model.config, model, 0
        self.top_k = c.top_k
        shape = c.layers, 2, c.kv_heads, room // c.block + 2, c.block, c.head_dim
        self.cache = torch.zeros(shape, dtype=torch.bfloat16)
        self.centroids = torch.zeros(*shape[:1], *shape[2:4], shape[5])
        self.selected: list[Tensor] = []  # of every layer [tokens,heads,top_k]

    @torch.no_grad()
    def feed(self, ids: Tensor) -> Tensor:
        """Appends `ids`; the next tokens that the model predicts."""
        c, model = self.model.config, self.model
        position = torch.arange(self.length, self.length + len(ids))
        cos, sin = (x[:, None] for x in rope_table(position, c))
        self.selected = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = model.embed(ids)
            for number, layer in enumerate(model.layers):
                a, h = layer.attention, layer.input_norm(x)
                q, k, v = (
                    p(h).view(len(ids), -1, c.head_dim).float()
                    for p in (a.q_proj, a.k_proj, a.v_proj)
                )
                q, k = rotate(q, cos, sin).bfloat16(), rotate(k, cos, sin)
                self.append(number, position, k, v)
                x = layer.add_mlp(x + a.o_proj(self.attend(number, position, q).flatten(1)))
            self.length += len(ids)
            return model.logits(model.norm(x)).argmax(-1)

    def append(self, layer: int, position: Tensor, k: Tensor, v: Tensor) -> None:
        block = self.model.config.block
        at, inside = position // block, position % block
        for half, rows in enumerate((k, v)):
            self.cache[layer, half, :, at, inside] = rows.transpose(0, 1).bfloat16()
        full = slice(int(position[0]) // block, (int(position[-1]) + 1) // block)
        means = self.cache[layer, 0, :, full].float().mean(2)
        self.centroids[layer, :, full] = means.bfloat16().float()

    def attend(self, layer: int, position: Tensor, q: Tensor) -> Tensor:
        c, tokens = self.model.config, len(position)
        own, ratio, outputs, chosen = position // c.block, c.heads // c.kv_heads, [], []
        known = int(own[-1]) + 1
        for group in range(c.kv_heads):
            heads = q[:, group * ratio : (group + 1) * ratio]
            scores = heads.float() @ self.centroids[layer, group, :known].t()
            past = torch.arange(known) < own[:, None, None]
            scores = scores.masked_fill(~past, -1e30)
            count = min(self.top_k - 1, known)
            best = scores.topk(count, -1)
            index = torch.cat((best.indices, own[:, None, None].expand(-1, ratio, 1)), -1)
            keys, values = (self.cache[layer, half, group][index] for half in (0, 1))
            logits = torch.einsum("thd,thnbd->thnb", heads, keys).float() * c.head_dim**-0.5
            hidden = torch.zeros_like(logits, dtype=torch.bool)
            hidden[:, :, :-1] = (best.values < -1e29)[..., None]
            hidden[:, :, -1] = (torch.arange(c.block) > (position % c.block)[:, None])[:, None]
            weight = logits.masked_fill(hidden, -1e30).flatten(2).softmax(-1)
            outputs.append(torch.einsum("thn,thnd->thd", weight.bfloat16(), values.flatten(2, 3)))
            chosen.append(index)
        self.selected.append(torch.cat(chosen, 1))
        return torch.cat(outputs, 1).float()


def document(rng: random.Random, filler: list[int], tokens: int, statements: list) -> tuple:
    """[ids], and where every statement begins; statements evenly spread at the filler's words."""
    room = tokens - 1 - sum(len(ids) for ids, _, _ in statements)
    while len(filler) < room + 1:
        filler = filler + filler
    offset = rng.randrange(len(filler) - room)
    filler, ids, starts, done = filler[offset : offset + room], [1], [], 0
    for number, (sentence, _, _) in enumerate(statements):
        cut = int(room * (number + rng.random()) / len(statements))
        ids += filler[done:cut]
        starts.append(len(ids))
        ids += sentence
        done = cut
    return ids + filler[done:], starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--filler", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, nargs="+", required=True)
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--split", default=facts.HELD_OUT, choices=(facts.HELD_OUT, facts.TRAIN))
    parser.add_argument("--block", type=int)
    parser.add_argument("--top-k", type=int, help="of document, question and answer")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model = load(args.model)
    changed = {"block": args.block, "top_k": args.top_k}
    model.config = dataclasses.replace(model.config, **{k: v for k, v in changed.items() if v})
    moba = json.loads((args.model / "config.json").read_text())["moba"]
    decode_top_k = args.top_k or moba.get("decode_top_k", moba["top_k"])
    tokenizer = spm.SentencePieceProcessor(model_file=str(args.model / "tokenizer.model"))
    user, assistant = (tokenizer.piece_to_id(piece) for piece in ("<|user|>", "<|assistant|>"))
    filler = tokenizer.encode(args.filler.read_text(encoding="utf-8"))
    seekers = [(i, h) for i, la in enumerate(model.layers) for h in la.attention.seekers]
    for tokens in args.tokens:
        rng, begin = random.Random(args.seed), time.monotonic()
        known = facts.make_facts(rng, min(args.facts, tokens // 40), args.split)
        statements = []
        for fact in known:
            sentence = tokenizer.encode(fact.fill(facts.told(rng, args.split)))
            statements.append((sentence, fact, tokenizer.encode(fact.value)))
        ids, starts = document(rng, filler, tokens, statements)
        reader = Reader(model, tokens + 256)
        for start in range(0, len(ids), CHUNK):
            reader.feed(torch.tensor(ids[start : start + CHUNK]))
        steps, by_head, by_any, right = 0, {seeker: 0 for seeker in seekers}, 0, 0
        for (sentence, fact, value), start in zip(statements, starts):
            reader.length = len(ids)
            question = tokenizer.encode(fact.fill(facts.asked(rng, args.split)))
            answer = tokenizer.encode(fact.fill(facts.ANSWER))
            asked = [user, *question, assistant]
            try:
                there, here = start + find(sentence, value), find(answer, value)
            except ValueError:  # cut into other pieces here than there
                continue
            reader.top_k = model.config.top_k
            reader.feed(torch.tensor(asked))
            reader.top_k = decode_top_k  # of what the server would generate
            predicted = reader.feed(torch.tensor(answer))
            for step in range(len(value)):
                at, block = here + step - 1, (there + step) // model.config.block
                seen = [bool((reader.selected[i][at, h] == block).any()) for i, h in seekers]
                for seeker, found in zip(seekers, seen):
                    by_head[seeker] += found
                by_any, steps = by_any + any(seen), steps + 1
                right += int(predicted[at]) == value[step]
        heads = " ".join(f"{i}.{h} {100 * n / steps:.1f}" for (i, h), n in by_head.items())
        chance = min(100.0, 100 * (decode_top_k - 1) * model.config.block / tokens)
        print(
            f"{tokens} tokens, {steps} steps: found by any {100 * by_any / steps:.1f}% ({heads}), "
            f"by chance {chance:.2f}%; token right {100 * right / steps:.1f}%; "
            f"{time.monotonic() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
