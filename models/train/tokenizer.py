"""Trains the SentencePiece tokenizer and encodes the filler.

Generated facts are part of its training text, so that attributes, places and the syllables of names
are single pieces, and numbers are cut into runs of one or two digits that never merge with what
surrounds them: fewer tokens to route for every name and value, and the same pieces wherever a value
stands.
"""

import argparse
import pathlib
import random
import re

import numpy as np
import sentencepiece as spm

import facts

VOCABULARY = 4096
SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
BARRIER = "\u241f"  # no piece is learnt across it


def training_lines(text: str, rng: random.Random):
    for start in range(0, len(text), 400):
        yield text[start : start + 400].replace("\n", " ")
    for _ in range(5000):
        group = facts.make_facts(rng, 8, facts.TRAIN)
        for fact in group:
            yield fact.fill(facts.told(rng, facts.TRAIN))
            yield fact.fill(facts.asked(rng, facts.TRAIN))
        for link, fact in facts.make_links(rng, group, 2, facts.TRAIN):
            yield link.sentence()
            yield link.question(fact.attribute)
        yield " ".join(str(rng.randrange(10 ** rng.randrange(2, 7))) for _ in range(60))


def with_barriers(line: str) -> str:
    """Barriers at both ends of a run of digits, between its pairs, and before a full stop."""
    line = re.sub(r"\d+", lambda run: BARRIER.join(re.findall(r"\d\d?", run[0])) + BARRIER, line)
    line = re.sub(rf"(?<=[^\s\d{BARRIER}])(?=\d)|(?=[.,:?])", BARRIER, line)
    return line.strip(BARRIER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    data = parser.parse_args().data
    train = (data / "train.txt").read_text(encoding="utf-8")
    rng = random.Random(0)
    spm.SentencePieceTrainer.train(
        sentence_iterator=map(with_barriers, training_lines(train, rng)),
        model_prefix=str(data / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCABULARY,
        user_defined_symbols=SPECIAL,
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="nmt_nfkc",
        num_threads=2,
        pretokenization_delimiter=BARRIER,
        minloglevel=1,
    )
    tokenizer = spm.SentencePieceProcessor(model_file=str(data / "tokenizer.model"))
    for split in ("train", "held_out"):
        text = (data / f"{split}.txt").read_text(encoding="utf-8")
        ids = tokenizer.encode(text)
        np.save(data / f"{split}.npy", np.array(ids, dtype=np.uint16))
        print(split, len(ids), "tokens")


if __name__ == "__main__":
    main()
