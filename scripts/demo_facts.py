"""Invented facts, the questions about them, and real documentation text to hide them in."""

import dataclasses
import pathlib
import random
import re
import subprocess
import tempfile

ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr gr kr tr st sk pl fl gl sh th ch".split()
VOWELS = "a e i o u ai ea ou".split()
CODAS = "n r l s m t x nd rk th".split()
PLACES = "station office project vault museum hotel laboratory village bridge library".split()
ATTRIBUTES = ("access code", "budget", "serial number", "room number", "launch year", "population",
              "account number", "ticket price", "flight number", "locker number", "batch number",
              "reference number")

CORPUS_PACKAGE = "python3.11-doc"  # the Python documentation: real prose, several megabytes


@dataclasses.dataclass(frozen=True)
class Fact:
    attribute: str
    entity: str
    value: str

    def sentence(self):
        return f"The {self.attribute} of {self.entity} is {self.value}."

    def question(self):
        return f"What is the {self.attribute} of {self.entity}?"

    def is_answered_by(self, text):
        return re.search(rf"(?<!\w){re.escape(self.value)}(?!\w)", text) is not None


def invented_name(rng):
    syllables = rng.choice((2, 2, 3))
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS)
                   + (rng.choice(CODAS) if rng.random() < 0.35 else "")
                   for _ in range(syllables)).capitalize()


def make_facts(count, seed):
    rng = random.Random(seed)
    facts, seen = [], set()
    while len(facts) < count:
        name = invented_name(rng)
        if name in seen:
            continue
        seen.add(name)
        digits = rng.randrange(3, 6)
        value = str(rng.randrange(10 ** (digits - 1), 10 ** digits))
        facts.append(Fact(ATTRIBUTES[len(facts) % len(ATTRIBUTES)],
                          f"the {name} {rng.choice(PLACES)}", value))
    return facts


def load_corpus(cache_dir):
    """Plain text of the Python documentation, taken from Debian's package once and kept."""
    cache = pathlib.Path(cache_dir) / "corpus.txt"
    if cache.exists():
        return cache.read_text(encoding="utf-8")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-qq", CORPUS_PACKAGE], cwd=folder, check=True,
                       stderr=subprocess.DEVNULL)
        package = next(pathlib.Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        pages = sorted(pathlib.Path(folder).rglob("_sources/**/*.txt"))
        text = "\n".join(page.read_text(encoding="utf-8", errors="replace") for page in pages)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"[=\-~*^#\"]{4,}", "", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    cache.write_text(text, encoding="utf-8")
    return text


def plant(filler, facts, seed):
    """The filler with one fact sentence after the line break next to each evenly spread place."""
    rng = random.Random(seed)
    order = facts[:]
    rng.shuffle(order)
    parts, start = [], 0
    for number, fact in enumerate(order):
        target = int(len(filler) * (number + rng.uniform(0.2, 0.8)) / len(order))
        cut = filler.find("\n", max(target, start))
        cut = len(filler) if cut < 0 else cut + 1
        parts += [filler[start:cut], fact.sentence(), "\n"]
        start = cut
    parts.append(filler[start:])
    return "".join(parts)
