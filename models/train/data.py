"""Training sequences: filler with facts, questions between its parts, and where each answer stands.

A sequence is a document with conversation turns at several places. Every answer token of a value
knows where its twin stands in the document (`source`): it supervises routing, and is no input.
"""

import dataclasses
import math
import pathlib
import random

import numpy as np
import sentencepiece as spm

import facts

NOWHERE = (-1, -1, -1, -1)
FILLER, STATEMENT, QUESTION, ANSWER = range(4)
DOCUMENT_END = "That is all there is to read here."  # what the chat template puts behind a document
END_POSITION = 1 << 24  # every sequence ends here, so that all distances fit below it


@dataclasses.dataclass
class Sequence:
    ids: np.ndarray  # int64 [tokens]
    weight: np.ndarray  # float32 [tokens], of the loss on predicting this token
    source: (
        np.ndarray
    )  # int64 [tokens], where the value token to be predicted next, or the token behind the value,
    # stands; this very token where an absent value would be; -1: nowhere
    echo: np.ndarray  # int64 [tokens], the same for words that the answer repeats from the question
    gather: (
        np.ndarray
    )  # int64 [tokens, 4], around a value: behind and at the beginning of its attribute, behind its
    # entity, behind the name in the entity
    position: np.ndarray  # int64 [tokens]
    near: np.ndarray  # bool [blocks], no gap between this block and the one before
    plain: np.ndarray  # bool [blocks], filler and nothing else


@dataclasses.dataclass
class Statement:
    """A sentence that says `value` of an attribute and an entity, or of a verb and a person."""

    ids: list[int]
    about: tuple[list[int], list[int]]
    value: list[int]
    start: int = -1  # of the value in the sequence, once placed


def part_of(ids: list[int], part: list[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids)))


def find(ids: list[int], part: list[int]) -> int:
    for at in range(len(ids) - len(part), -1, -1):
        if ids[at : at + len(part)] == part:
            return at
    raise ValueError("a value is cut into other tokens inside its sentence")


class Corpus:
    def __init__(self, data: pathlib.Path, split: str):
        self.split = split
        if split == facts.TRAIN:
            facts.use_words((data / "train.txt").read_text(encoding="utf-8"))
        self.filler = np.load(data / f"{split}.npy")
        self.tokenizer = spm.SentencePieceProcessor(model_file=str(data / "tokenizer.model"))
        special = ("<s>", "<|user|>", "<|assistant|>", "<|end|>")
        pieces = [self.tokenizer.id_to_piece(i) for i in range(self.tokenizer.get_piece_size())]
        self.begins_word = np.array([piece.startswith("\u2581") for piece in pieces])
        self.bos, self.user, self.assistant, self.end = map(self.tokenizer.piece_to_id, special)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def cut(self, rng: random.Random, count: int) -> list[int]:
        start = rng.randrange(len(self.filler) - count)
        return self.filler[start : start + count].tolist()


class Builder:
    """Writes one sequence from left to right."""

    def __init__(self, corpus: Corpus, rng: random.Random):
        self.corpus, self.rng = corpus, rng
        self.ids, self.kind, self.weight = [corpus.bos], [FILLER], [0.1]
        self.source, self.echo, self.gather = [-1], [-1], [NOWHERE]

    def add(self, ids: list[int], kind: int) -> None:
        self.ids += ids
        self.kind += [kind] * len(ids)
        self.weight += [{FILLER: 0.1, STATEMENT: 0.1, QUESTION: 0.0, ANSWER: 1.0}[kind]] * len(ids)
        self.source += [-1] * len(ids)
        self.echo += [-1] * len(ids)
        self.gather += [NOWHERE] * len(ids)

    def mark(
        self, start: int, ids: list[int], about: tuple[list[int], list[int]], value: list[int]
    ) -> None:
        """Tells a value's tokens where its attribute and its entity were named.

        The first layer brings every token the four before it, so that the place behind a word has
        its last four pieces; only there it is known that the word has ended.
        """
        attribute, entity = about
        first, named = start + find(ids, attribute), start + find(ids, entity)
        begins = self.corpus.begins_word
        title = next((i for i in range(1, len(entity)) if begins[entity[i]]), len(entity))
        begin = start + find(ids, value)
        for at in range(begin - 1, min(begin + len(value) + 1, len(self.gather))):
            marks = first + len(attribute), first, named + len(entity), named + title
            self.gather[at] = tuple(min(mark, at) for mark in marks)

    def turn(
        self, question: str, answer: list[Statement], told: list[Statement], echoed: list[str]
    ) -> None:
        """A question and its answer, which repeats `echoed` and the values of `told` in order."""
        asked, begin = self.corpus.encode(question), len(self.ids) + 1
        self.add([self.corpus.user, *asked, self.corpus.assistant], QUESTION)
        ids, start = [i for sentence in answer for i in sentence.ids] + [self.corpus.end], len(
            self.ids
        )
        self.add(ids, ANSWER)
        at = start
        for sentence in answer:
            self.mark(at, sentence.ids, sentence.about, sentence.value)
            if not told:
                absent = at + find(sentence.ids, sentence.value) - 1
                self.source[absent] = absent
            at += len(sentence.ids)
        for words in echoed:
            part = self.corpus.encode(words.removeprefix("the "))
            there, here = begin + find(asked, part), start + find(ids, part)
            for offset in range(len(part)):
                self.echo[here + offset - 1] = there + offset
        at = 0
        for statement in told:
            value = statement.value
            at = next(i for i in range(at, len(ids)) if ids[i : i + len(value)] == value)
            for offset in range(len(value) + 1):  # what stands behind a value shows its end
                self.source[start + at + offset - 1] = statement.start + offset
            at += len(value)

    def document(self, statements: list[Statement], room: int) -> None:
        filler, done = self.corpus.cut(self.rng, room), 0
        edges = [0, *np.flatnonzero(self.corpus.begins_word[filler]).tolist(), room]
        cuts = sorted(self.rng.choice(edges) for _ in statements)
        for cut, statement in zip(cuts, statements):
            self.add(filler[done:cut], FILLER)
            start = len(self.ids)
            statement.start = start + find(statement.ids, statement.value)
            self.add(statement.ids, STATEMENT)
            self.mark(start, statement.ids, statement.about, statement.value)
            done = cut
        self.add(filler[done:], FILLER)


def build(corpus: Corpus, seed: str, tokens: int, block: int) -> Sequence:
    rng = random.Random(seed)
    split, encode = corpus.split, corpus.encode
    count = max(
        2, round(tokens / math.exp(rng.uniform(math.log(34), math.log(min(180, tokens / 8)))))
    )
    questions = tokens // 48  # at most: in dense documents some facts are rivals only
    known = facts.make_facts(rng, count, split)
    links = facts.make_links(rng, known, round(count * rng.choice((0, 0.15, 0.3))), split)
    known_keys = {fact.key for fact in known}

    def say(fact: facts.Fact, template: str) -> Statement:
        about = encode(fact.attribute), encode(fact.entity.removeprefix("the "))
        made = Statement(encode(fact.fill(template)), about, encode(fact.value))
        whole = all(part_of(made.ids, part) for part in (*about, made.value))
        return made if whole else say(fact, facts.ANSWER)

    def ask(fact: facts.Fact) -> str:
        parts = fact.attribute, fact.entity.removeprefix("the ")
        question = fact.fill(facts.asked(rng, split))
        whole = all(part_of(encode(question), encode(part)) for part in parts)
        return question if whole else fact.fill("What is the {a} of {e}?")

    statements = {fact: say(fact, facts.told(rng, split)) for fact in known}
    for link, _ in links:
        about = encode(link.verb), encode(link.person)
        statements[link] = Statement(encode(link.sentence()), about, encode(link.entity))
    order = list(statements)
    rng.shuffle(order)

    builder, ready, open_links = Builder(corpus, rng), [], dict(links)
    parts = 1 if rng.random() < 0.3 else rng.randrange(1, 2 + min(3, tokens // 512))
    spent = sum(len(s.ids) for s in statements.values()) + 29 * min(count, questions)
    room = max(8, tokens - spent) // parts + 8
    for part in range(parts):
        batch = order[part * len(order) // parts : (part + 1) * len(order) // parts]
        builder.document([statements[item] for item in batch], room)
        told = [item for item in batch if isinstance(item, facts.Fact)]
        rng.shuffle(told)
        ready += told[: -(-questions // parts)]
        rng.shuffle(ready)
        last = part == parts - 1
        for _ in range(len(ready) if last else round(len(ready) * rng.uniform(0.3, 0.9))):
            if not ready:
                break
            kind = rng.random()
            if kind < 0.2:
                make = facts.make_rival if rng.random() < 0.6 else facts.make_absent
                fact = make(rng, known, split)
                if fact.key not in known_keys:
                    builder.turn(
                        ask(fact),
                        [say(fact, facts.ANSWER)],
                        [],
                        [fact.attribute, fact.entity],
                    )
            link = next(
                (
                    x
                    for x, fact in open_links.items()
                    if statements[x].start >= 0 and fact in ready
                ),
                None,
            )
            if kind > 0.7 and link is not None:
                fact = open_links.pop(link)
                ready.remove(fact)  # asked once: an answer above would be a second place to find it
                builder.turn(
                    link.question(fact.attribute),
                    [statements[link], say(fact, facts.ANSWER)],
                    [statements[link], statements[fact]],
                    [link.person, fact.attribute],
                )
                continue
            fact = ready.pop()
            builder.turn(
                ask(fact),
                [say(fact, facts.ANSWER)],
                [statements[fact]],
                [fact.attribute, fact.entity],
            )
    if len(builder.ids) < tokens:
        builder.add(corpus.cut(rng, tokens - len(builder.ids)), FILLER)
    position, near = positions(rng, np.array(builder.kind[:tokens]), block)
    ids, weight, source, echo, gather = (
        np.array(x[:tokens])
        for x in (builder.ids, builder.weight, builder.source, builder.echo, builder.gather)
    )
    plain = (np.array(builder.kind[:tokens]) == FILLER).reshape(-1, block).all(1)
    return Sequence(ids, weight.astype(np.float32), source, echo, gather, position, near, plain)


def positions(rng: random.Random, kind: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions with a few large gaps, each between two blocks and inside filler."""
    tokens = len(kind)
    position, near = np.arange(tokens), np.ones(tokens // block, dtype=bool)
    edges = [at for at in range(block, tokens, block) if kind[at - 1] == kind[at] == FILLER]
    if edges and rng.random() < 0.85:
        for at in rng.sample(edges, min(len(edges), rng.randrange(1, 6))):
            position[at:] += int(math.exp(rng.uniform(math.log(block), math.log(1_000_000))))
            near[at // block] = False
    return position + END_POSITION - position[-1], near
