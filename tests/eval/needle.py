#!/usr/bin/env python3
"""Asks any OpenAI-compatible server about facts planted in long documents, and draws the map.

    tests/eval/needle.py --base-url http://127.0.0.1:8000/v1 --out build/eval/moba
    tests/eval/needle.py --out build/eval/full --extra-body '{"attention": {"mode": "full"}}'
    tests/eval/needle.py --out build/eval/moba --report      # tables and heat map only

Every document is software documentation that the bundled model never saw, with some hundred facts of
held-out names and phrasings (models/train/facts.py), near-duplicates among them. Single facts are
asked at five depths, two-hop questions and questions about absent facts beside them, greedily; an
answer is right if it contains the value. Answers go to OUT/answers.jsonl one by one: the same
command again goes on where it stopped. OUT/report.md, OUT/summary.json and
OUT/heatmap.svg are made of that file.
Needs the `openai` package.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import random
import re
import sys
import time

import openai

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "models/train"))
import corpus  # noqa: E402
import facts  # noqa: E402
import heatmap  # noqa: E402

SINGLE, TWO_HOP, ABSENT = KINDS = ("single", "two-hop", "absent")
TOKENS_PER_FACT = 40  # at least: shorter documents hold fewer facts
RESERVE_TOKENS = 256  # of the context, for question, answer and template
LONG_TOKENS = 65536  # longer documents are counted in parts, and met less closely
PART_CHARACTERS = 1 << 18


@dataclasses.dataclass(frozen=True)
class Question:
    kind: str
    depth: int  # which fifth of the document holds the fact; -1: none does
    text: str
    value: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The documents of one context length."""

    tokens: int
    documents: int
    facts: int  # in each
    links: int
    absent: int


def plan_of(tokens: int, args: argparse.Namespace) -> Plan:
    """As many documents as hold the questions: all facts of a document are asked."""
    held = min(args.facts, tokens // TOKENS_PER_FACT)
    documents = -(-args.questions * args.depths // held)
    others = -(-args.questions // documents)
    return Plan(tokens, documents, held, min(others, held // 4), others)


def load_filler(path: pathlib.Path | None, cache: pathlib.Path) -> str:
    if path:
        return path.read_text(encoding="utf-8")
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        pages = [page for source in corpus.SOURCES["held_out"] for page in corpus.pages_of(*source)]
        cache.write_text("\n".join(pages), encoding="utf-8")
    return cache.read_text(encoding="utf-8")


def plant(rng: random.Random, filler: str, sentences: list[str]) -> tuple[str, list[float]]:
    """Every sentence after a word of the filler, evenly spread; and where: 0 begin, 1 end."""
    parts, places, start, written = [], [], 0, 0
    for number, sentence in enumerate(sentences):
        target = int(len(filler) * (number + rng.random()) / len(sentences))
        cut = filler.find(" ", max(target, start))
        cut = len(filler) if cut < 0 else cut + 1
        parts += [filler[start:cut], sentence + " "]
        written += cut - start
        places.append(written)
        written += len(sentence) + 1
        start = cut
    text = "".join([*parts, filler[start:]])
    return text, [place / len(text) for place in places]


def ask_about(rng: random.Random, fact: facts.Fact, split: str) -> str:
    return fact.fill(facts.asked(rng, split))


def questions_of(rng: random.Random, plan: Plan, split: str):
    """Sentences to plant in their order, how many questions there are, and places -> questions."""
    known = facts.make_facts(rng, plan.facts, split)
    links = facts.make_links(rng, known, plan.links, split)
    told = [(fact, fact.fill(facts.told(rng, split))) for fact in known]
    told += [(None, link.sentence()) for link, _ in links]
    rng.shuffle(told)
    known_keys = {fact.key for fact in known}
    missing = []
    while len(missing) < plan.absent:
        fact = facts.make_absent(rng, known, split)
        if fact.key not in known_keys:
            missing.append(fact)

    def made(places: list[float], depths: int) -> list[Question]:
        single = [
            Question(SINGLE, min(int(place * depths), depths - 1), ask_about(rng, fact, split),
                     fact.value)
            for (fact, _), place in zip(told, places) if fact]
        hops = [Question(TWO_HOP, -1, link.question(fact.attribute), fact.value)
                for link, fact in links]
        return single + hops + [Question(ABSENT, -1, ask_about(rng, fact, split), facts.ABSENT)
                                for fact in missing]

    return [sentence for _, sentence in told], len(told) + len(missing), made


class Server:
    def __init__(self, base_url: str, api_key: str = "unused", model: str | None = None,
                 extra: dict | None = None, instruction: str = ""):
        self.client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=4 * 3600)
        self.model = model or self.client.models.list().data[0].id
        self.extra, self.instruction = extra or {}, instruction

    def ask(self, document: str, question: str):
        """The answer's text, and its usage."""
        return self.complete(document, question, max_tokens=64, extra=self.extra)

    def complete(self, document: str, question: str, max_tokens: int, extra: dict):
        system = f"{self.instruction}\n{document}" if self.instruction else document
        completion = self.client.chat.completions.create(
            model=self.model, temperature=0, max_tokens=max_tokens, extra_body=extra,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": question}])
        return completion.choices[0].message.content or "", completion.usage

    def count(self, text: str) -> int:
        """Tokens of a prompt, or a few more: parts of a text take less time than all of it, and
        what is asked for beside the answer (full attention) is not asked for here."""
        parts = [text[start : start + PART_CHARACTERS]
                 for start in range(0, max(len(text), 1), PART_CHARACTERS)]
        return sum(self.complete(part, "?", 1, {})[1].prompt_tokens for part in parts)


def whole_sentences(filler: str, size: int) -> str:
    """The filler's first `size` characters, or a little less: to where a sentence ends, or a word."""
    near = max(0, size - max(2000, size // 50))
    for marks in ((". ", ".\n"), (" ", "\n")):
        end = max(filler.rfind(mark, near, size) for mark in marks)
        if end >= 0:
            return filler[: end + 1]
    return filler[:size]


def document_of(server: Server, rng: random.Random, filler: str, sentences: list[str],
                tokens: int) -> tuple[str, list[float]]:
    """At most `tokens` less the reserve, and hardly less: sizes are found on a part of the text."""
    offset, seed = rng.randrange(len(filler)), rng.random()
    filler = filler[offset:] + filler[:offset]
    room = tokens - RESERVE_TOKENS
    steps = range(0, min(4 * room, len(filler)), max(4 * room // 16, 1))
    sample = "".join(filler[start : start + min(4096, room // 4)] for start in steps)
    per_character = server.count(sample) / len(sample)
    planted = server.count(" ".join(sentences))
    size = int((room - planted) / per_character)
    while len(filler) < size:
        filler += filler
    close = 0.985
    if tokens > LONG_TOKENS:  # where every try costs
        close, size = 0.97, int(size * 0.975)
    fits, too_long, best = 0, len(filler), (0, None)
    for _ in range(12):
        made = plant(random.Random(seed), whole_sentences(filler, size), sentences)
        counted = server.count(made[0])
        if counted > room:
            too_long = min(too_long, size)
        else:
            fits, best = max(fits, size), max(best, (counted, made), key=lambda item: item[0])
        if close * room <= counted <= room:
            break
        size += int((0.993 * room - counted) / per_character)
        if not fits < size < too_long:  # where the filler is unlike the sample, or its sentences long
            size = (fits + too_long) // 2
    if best[1] is None:
        raise SystemExit(f"the facts alone are longer than {tokens} tokens")
    return best[1]


def is_right(answer: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer) is not None


class ProgressBar:
    """A line that is written over on a terminal, one line a document elsewhere."""

    def __init__(self, total: int):
        self.total, self.done, self.right, self.begin = total, 0, 0, time.monotonic()

    def add(self, right: bool, label: str) -> None:
        self.done, self.right = self.done + 1, self.right + right
        if sys.stdout.isatty():
            filled = 30 * self.done // self.total
            left = (time.monotonic() - self.begin) / self.done * (self.total - self.done)
            print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {self.done}/{self.total} "
                  f"{self.right / self.done:.1%} right, {label}, {left / 60:.0f} min left ",
                  end="", flush=True)

    def end(self, label: str) -> None:
        if not sys.stdout.isatty() and self.done:
            print(f"{label}: {self.done} of {self.total} asked, {self.right / self.done:.1%} right",
                  flush=True)


def read_answers(path: pathlib.Path, settings: dict) -> list[dict]:
    """Earlier answers; the first line says how they were asked, and must say what we would do."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return []
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    was = json.loads(first)
    changed = [key for key in settings if was.get(key) != settings[key]]
    if changed:
        raise SystemExit(f"{path} was made with other settings: {', '.join(changed)}")
    return [json.loads(line) for line in rest]


def run_document(server, args, filler, plan, number, done, keep, bar) -> None:
    """Asks what is left of one document; its first question alone, so that others find it cached."""
    rng = random.Random(f"{args.seed}-{plan.tokens}-{number}")
    sentences, size, made = questions_of(rng, plan, args.split)
    if all((plan.tokens, number, index) in done for index in range(size)):
        return
    document, places = document_of(server, rng, filler, sentences, plan.tokens)
    left = [(index, question) for index, question in enumerate(made(places, args.depths))
            if (plan.tokens, number, index) not in done]

    def ask(item):
        index, question = item
        begin = time.monotonic()
        answer, usage = server.ask(document, question.text)
        cached = getattr(usage.prompt_tokens_details, "cached_tokens", None)
        return {"tokens": plan.tokens, "document": number, "index": index, "kind": question.kind,
                "depth": question.depth, "question": question.text, "value": question.value,
                "answer": answer, "right": is_right(answer, question.value),
                "prompt_tokens": usage.prompt_tokens, "cached_tokens": cached,
                "seconds": round(time.monotonic() - begin, 4)}

    with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
        for part in (left[:1], left[1:]):
            for record in pool.map(ask, part):
                keep(record)
                bar.add(record["right"], f"{heatmap.label(plan.tokens)} document {number + 1}")
    bar.end(f"{heatmap.label(plan.tokens)} document {number + 1}")


def measure(server: Server, args, path: pathlib.Path, settings: dict) -> None:
    records = read_answers(path, settings)
    done = {(r["tokens"], r["document"], r["index"]) for r in records}
    filler = load_filler(args.filler, args.cache)
    plans = [plan_of(tokens, args) for tokens in args.contexts]
    total = sum(p.documents * (p.facts + p.links + p.absent) for p in plans)
    total -= sum(tokens in args.contexts for tokens, _, _ in done)
    bar = ProgressBar(max(total, 1))
    with path.open("a", encoding="utf-8") as file:
        def keep(record):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
        for plan in plans:
            for number in range(plan.documents):
                run_document(server, args, filler, plan, number, done, keep, bar)


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927)."""
    z, share = 1.96, right / asked
    middle = share + z * z / (2 * asked)
    half = z * (share * (1 - share) / asked + z * z / (4 * asked * asked)) ** 0.5
    return (middle - half) / (1 + z * z / asked), (middle + half) / (1 + z * z / asked)


def report(path: pathlib.Path) -> str:
    """A table in Markdown: shares right by context and depth, in percent, with intervals."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    settings, right, asked = json.loads(first), collections.Counter(), collections.Counter()
    for record in map(json.loads, rest):
        for key in {(record["kind"], record["depth"]), (record["kind"], "all")}:
            asked[(record["tokens"], *key)] += 1
            right[(record["tokens"], *key)] += record["right"]

    def cell(tokens, kind, depth):
        key = (tokens, kind, depth)
        if not asked[key]:
            return "–"
        text = f"{100 * right[key] / asked[key]:.1f}"
        if depth == "all":
            low, high = wilson(right[key], asked[key])
            text += f" ({100 * low:.1f}–{100 * high:.1f}) of {asked[key]}"
        return text

    contexts, depths = sorted({key[0] for key in asked}), range(settings["depths"])
    bands = [f"{100 * d // len(depths)}–{100 * (d + 1) // len(depths)}%" for d in depths]
    text = f"| tokens | {' | '.join(bands)} | all depths | two hops | absent |\n"
    text += "|---" * (len(depths) + 4) + "|\n"
    for tokens in contexts:
        cells = [cell(tokens, SINGLE, depth) for depth in depths]
        cells += [cell(tokens, kind, "all") for kind in KINDS]
        text += f"| {tokens:,} | {' | '.join(cells)} |\n"
    shares = {(tokens, depth): (right[key], asked[key]) for tokens in contexts for depth in depths
              if asked[key := (tokens, SINGLE, depth)]}
    title = f"{settings['model']}: right answers, {settings['split'].replace('_', ' ')} facts"
    path.with_name("heatmap.svg").write_text(
        heatmap.draw(title, contexts, bands, shares), encoding="utf-8")
    path.with_name("report.md").write_text(text, encoding="utf-8")
    counts = [{"tokens": tokens, "kind": kind, "depth": depth, "right": right[key], "asked": count}
              for key, count in sorted(asked.items(), key=str) for tokens, kind, depth in [key]]
    summary = {**settings, "counts": counts}
    path.with_name("summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default="unused")
    parser.add_argument("--model", help="default: the first that the server lists")
    parser.add_argument("--contexts", type=lambda text: [int(x) for x in text.split(",")],
                        default=[4096, 16384, 65536, 262144, 1048576], help="tokens, with commas")
    parser.add_argument("--depths", type=int, default=5)
    parser.add_argument("--questions", type=int, default=200, help="for every context and depth")
    parser.add_argument("--facts", type=int, default=200, help="in a document, where they fit")
    parser.add_argument("--split", default=facts.HELD_OUT, choices=(facts.HELD_OUT, facts.TRAIN))
    parser.add_argument("--attributes", default="all", choices=("all", "new"),
                        help="of facts and their places; new: only those that training never saw")
    parser.add_argument("--filler", type=pathlib.Path, help="a text; default: a Debian package's")
    parser.add_argument("--cache", type=pathlib.Path, default=REPOSITORY / "build/eval/filler.txt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=4, help="questions under way at once")
    parser.add_argument("--extra-body", default="{}", help="JSON, merged into every request")
    parser.add_argument("--instruction", default="", help="before the document, for other models")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--report", action="store_true", help="ask nothing")
    args = parser.parse_args()
    path = args.out / "answers.jsonl"
    if not args.report:
        if args.attributes == "all":
            facts.use_all_attributes()
        try:
            server = Server(args.base_url, args.api_key, args.model, json.loads(args.extra_body),
                            args.instruction)
            settings = {"model": server.model, "split": args.split,
                        "attributes": args.attributes, "seed": args.seed, "depths": args.depths,
                        "facts": args.facts, "questions": args.questions,
                        "extra_body": args.extra_body, "instruction": args.instruction}
            measure(server, args, path, settings)
        except openai.OpenAIError as error:
            raise SystemExit(f"\n{error}\nAnswers are kept in {path}; the same command goes on there."
                             ) from error
        print()
    print(report(path), end="")


if __name__ == "__main__":
    main()
