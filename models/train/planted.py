"""Writes a document with planted facts as tokens, for `quire-eval gate`.

    python models/train/planted.py --tokenizer models/quire-6m/tokenizer.model \\
        --filler held_out.txt --tokens 65536 --out facts.json
    quire-eval gate --facts facts.json --heads 2.0,2.1,3.0,3.1

A step of an answer is a token of the value; what is looked up for it is its twin in the document.
"""

import argparse
import json
import pathlib
import random

import sentencepiece as spm

import facts
from data import DOCUMENT_END, find


def document(rng: random.Random, filler: list[int], tokens: int, statements: list) -> tuple:
    """[ids], and where every statement begins; statements evenly spread at the filler's words."""
    room = tokens - 1 - sum(map(len, statements))
    while len(filler) < room + 1:
        filler = filler + filler
    offset = rng.randrange(len(filler) - room)
    filler, ids, starts, done = filler[offset : offset + room], [1], [], 0
    for number, statement in enumerate(statements):
        cut = int(room * (number + rng.random()) / len(statements))
        ids += filler[done:cut]
        starts.append(len(ids))
        ids += statement
        done = cut
    return ids + filler[done:], starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--filler", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--split", default=facts.HELD_OUT, choices=(facts.HELD_OUT, facts.TRAIN))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    tokenizer = spm.SentencePieceProcessor(model_file=str(args.tokenizer))
    user, assistant = (tokenizer.piece_to_id(piece) for piece in ("<|user|>", "<|assistant|>"))
    rng = random.Random(args.seed)
    known = facts.make_facts(rng, min(args.facts, args.tokens // 40), args.split)
    statements = [tokenizer.encode(fact.fill(facts.told(rng, args.split))) for fact in known]
    filler = tokenizer.encode(args.filler.read_text(encoding="utf-8"))
    end = tokenizer.encode(DOCUMENT_END)
    ids, starts = document(rng, filler, args.tokens - len(end), statements)
    planted = []
    for fact, statement, start in zip(known, statements, starts):
        value = tokenizer.encode(fact.value)
        question = tokenizer.encode(fact.fill(facts.asked(rng, args.split)))
        answer = tokenizer.encode(fact.fill(facts.ANSWER))
        try:
            there, here = start + find(statement, value), find(answer, value)
        except ValueError:  # cut into other pieces here than there
            continue
        steps = [[here + i - 1, there + i] for i in range(len(value))]
        planted.append({"asked": [user, *question, assistant], "answer": answer, "steps": steps})
    args.out.write_text(json.dumps({"document": ids + end, "facts": planted}), encoding="utf-8")


if __name__ == "__main__":
    main()
