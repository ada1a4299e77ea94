"""Invented facts: names, attributes, values, and the phrasings in which they are told and asked.

Every pool has a training part and a held-out part (`split`), which training never sees.
"""

import collections
import dataclasses
import random
import re
import zlib
from collections.abc import Callable

from phrasings import (
    ASKED,
    ASKING,
    ATTRIBUTE_ENTITY,
    BEFORE,
    CLOSES,
    ENTITY_ATTRIBUTE,
    HELD_OUT,
    OPENINGS,
    TO_VALUE,
    TOLD,
    TRAIN,
)

ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr gr kr tr st sk pl fl gl sh th ch".split()
VOWELS = "a e i o u ai ea ou".split()
CODAS = "n r l s m t x nd rk th".split()

PLACES = {
    TRAIN: """station office project vault museum hotel laboratory village bridge library river team
        server ship factory school harbour tower garden theatre hospital market warehouse mine
        airport archive observatory bakery""".split(),
    HELD_OUT: "lighthouse clinic stadium depot monastery quarry".split(),
}
ATTRIBUTES = {
    TRAIN: [
        "access code",
        "budget",
        "serial number",
        "room number",
        "launch year",
        "population",
        "account number",
        "ticket price",
        "flight number",
        "locker number",
        "batch number",
        "reference number",
        "phone number",
        "invoice number",
        "passcode",
        "temperature",
        "length",
        "weight",
        "altitude",
        "capacity",
        "license number",
        "postal code",
        "opening date",
        "motto",
        "code name",
        "password",
        "colour",
        "version",
        "port number",
        "contract number",
        "depth",
        "expiry date",
    ],
    HELD_OUT: ["case number", "closing date", "call sign", "inventory number", "tax number"],
}
MONTHS = """January February March April May June July August September October November
    December""".split()
WORDS = {
    TRAIN: """red blue green black white silver golden purple orange yellow amber violet crimson
        falcon river stone winter summer autumn spring north south east west iron copper marble
        glass paper cotton velvet thunder lightning ocean island valley forest meadow garden
        mountain desert canyon harbour lantern mirror hammer anchor compass ladder bucket basket
        candle feather shadow whisper echo signal beacon rocket comet planet galaxy crystal diamond
        emerald ruby pearl cedar maple willow birch tiger wolf raven eagle sparrow dolphin turtle
        rabbit badger otter honey pepper ginger lemon apple cherry walnut bread butter sugar salt
        silent ancient hidden broken frozen gentle bright quiet hollow distant clever brave lucky
        simple royal rapid steady narrow double final open early late sweet bitter heavy light
        small great long short soft sharp cold warm deep high wild calm proud young""".split(),
    HELD_OUT: """scarlet heron glacier tundra saddle kettle almond walrus jasper cobalt humble
        rusty swift noble dusty""".split(),
}

ANSWER = "The {a} of {e} is {v}."
ABSENT = "not in the document"  # stands where the value would

# Two hops: a link sentence names the entity that a fact is about.
LINKS = [
    ("keeps", "that {p} keeps"),
    ("owns", "that {p} owns"),
    ("runs", "that {p} runs"),
    ("visited", "that {p} visited"),
    ("built", "that {p} built"),
]


@dataclasses.dataclass(frozen=True)
class Fact:
    attribute: str
    entity: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """What a question names. "the Zelk vault" and "Zelk vault" are one entity to a reader."""
        return self.entity.lower().removeprefix("the "), self.attribute

    def fill(self, template: str) -> str:
        text = template.format(a=self.attribute, e=self.entity, v=self.value)
        return text[0].upper() + text[1:]


@dataclasses.dataclass(frozen=True)
class Link:
    person: str
    verb: str
    which: str
    entity: str  # "the Zelk vault"

    def sentence(self) -> str:
        return f"{self.person} {self.verb} {self.entity}."

    def question(self, attribute: str) -> str:
        place = self.entity.split()[-1]
        return f"What is the {attribute} of the {place} {self.which.format(p=self.person)}?"

    def answer(self, fact: Fact) -> str:
        return f"{self.sentence()} {fact.fill(ANSWER)}"


# Words of the filler, for attributes and places that are in no list; see use_words. Without them a
# model learns the lists, and answers a new attribute with one that it knows.
_words: list[str] = []
_rare: list[str] = []  # most of them are several pieces


def use_words(text: str, count: int = 4000, rare: int = 16000) -> None:
    """Takes the commonest plain words of a text, less those of the held-out pools."""
    held = " ".join([*ATTRIBUTES[HELD_OUT], *PLACES[HELD_OUT], *WORDS[HELD_OUT]]).split()
    common = collections.Counter(re.findall(r"\b[a-z]{4,10}\b", text)).most_common(count + rare)
    kept = [word for word, _ in common if word not in held]
    _words[:], _rare[:] = kept[:count], kept[count:]


def use_all_attributes() -> None:
    """Held-out facts then have the attributes and places of training, too."""
    for pools in (ATTRIBUTES, PLACES):
        pools[HELD_OUT] = pools[HELD_OUT] + pools[TRAIN]


def word(rng: random.Random) -> str:
    """A common word, or one time in four an invented one, of pieces in any order."""
    return rng.choice(_words) if rng.random() < 0.75 and _words else name(rng, TRAIN).lower()


def attribute(rng: random.Random, split: str) -> str:
    if not _words or split != TRAIN or rng.random() < 0.12:
        return rng.choice(ATTRIBUTES[split])
    if rng.random() < 0.4:
        return word(rng)
    last = word(rng) if rng.random() < 0.4 else rng.choice(ATTRIBUTES[split]).split()[-1]
    return f"{word(rng)} {last}"


def near_attribute(rng: random.Random, other: str, split: str) -> str:
    """Another attribute; in training often one that ends with the same word."""
    if split != TRAIN or " " not in other or rng.random() < 0.5:
        return attribute(rng, split)
    last = other.split()[-1]
    listed = [known for known in ATTRIBUTES[TRAIN] if known.endswith(last) and known != other]
    return rng.choice(listed) if listed and rng.random() < 0.2 else f"{word(rng)} {last}"


def place(rng: random.Random, split: str) -> str:
    if not _words or split != TRAIN or rng.random() < 0.2:
        return rng.choice(PLACES[split])
    return word(rng)


def words(rng: random.Random) -> str:
    """A common word, for what stands around a fact."""
    return rng.choice(_words or WORDS[TRAIN])


def dressed(rng: random.Random, template: str, split: str = TRAIN) -> str:
    """The names, numbers and words that have nothing to do with the fact."""
    for slot, make in (
        ("{n}", lambda: name(rng, split)),
        ("{d}", lambda: str(rng.randrange(1, 999))),
        ("{y}", lambda: str(rng.randrange(1700, 2100))),
        ("{w}", lambda: words(rng)),
    ):
        while slot in template:
            template = template.replace(slot, make(), 1)
    return template


def composed(rng: random.Random) -> str:
    """The core of a statement, of parts that no list has together."""
    if rng.random() < 0.5:
        start = "the {a} " + rng.choice(ATTRIBUTE_ENTITY) + " {e}"
    else:
        before = rng.choice(BEFORE) + " " if rng.random() < 0.5 else ""
        start = before + "{e}" + rng.choice(ENTITY_ATTRIBUTE) + " {a}"
    return start + rng.choice(TO_VALUE) + " {v}"


def composed_question(rng: random.Random) -> str:
    asking = rng.choice(ASKING)
    if rng.random() < 0.5:
        return f"{asking} the {{a}} {rng.choice(ATTRIBUTE_ENTITY)} {{e}}?"
    between, article = rng.choice((",", ":", ";", ".", ", {w}")), rng.choice(("the", "its"))
    return f"{rng.choice(BEFORE)} {{e}}{between} {asking} {article} {{a}}?"


def told(rng: random.Random, split: str) -> str:
    """A phrasing of a statement: a template of {a}, {e} and {v}."""
    plain = rng.random() < 0.3
    opening = "" if plain else rng.choice(OPENINGS[split])
    close = "." if plain else rng.choice(CLOSES[split])
    core = rng.choice(TOLD[split])
    if split == TRAIN and rng.random() < 0.25:
        core = composed(rng)
    return dressed(rng, f"{opening} {core}{close}".strip(), split)


def asked(rng: random.Random, split: str) -> str:
    own = split == TRAIN and rng.random() < 0.25
    return dressed(rng, composed_question(rng) if own else rng.choice(ASKED[split]), split)


def syllable(rng: random.Random) -> str:
    coda = rng.choice(CODAS) if rng.random() < 0.35 else ""
    return rng.choice(ONSETS) + rng.choice(VOWELS) + coda


def pool_of(title: str) -> str:
    """The split that a name belongs to: one name in eight is held out."""
    return HELD_OUT if zlib.crc32(title.encode()) % 8 == 0 else TRAIN


# Of a name. Training has more short and long ones, which are the hardest to find.
SYLLABLES = {TRAIN: (1, 1, 2, 2, 2, 3, 3), HELD_OUT: (1, 2, 2, 2, 3)}


def name(rng: random.Random, split: str) -> str:
    while True:
        parts = (syllable(rng) for _ in range(rng.choice(SYLLABLES[split])))
        title = "".join(parts).capitalize()
        if pool_of(title) == split:
            return title


def near_name(rng: random.Random, other: str, split: str) -> str:
    """A name that shares most letters with another one."""
    letters = other.lower()
    while True:
        if rng.random() < 0.5:
            title = letters[: max(2, len(letters) - 3)] + syllable(rng)
        else:
            title = syllable(rng) + letters[-max(2, len(letters) - 3) :]
        if pool_of(title.capitalize()) == split:
            return title.capitalize()


def renamed(who: str, rename: Callable[[str], str]) -> str:
    """An entity with another name: its first capitalised word."""
    parts = who.split()
    at = next(i for i, part in enumerate(parts) if part[0].isupper())
    parts[at] = rename(parts[at])
    return " ".join(parts)


def entity(
    rng: random.Random, split: str, places: list[str], title: str | None = None
) -> str:
    title = title or name(rng, split)
    where = rng.choice(places) if places else place(rng, split)
    kind = rng.random()
    if kind < (0.65 if split == TRAIN else 0.75):
        return f"the {title} {where}"
    if kind < 0.85:
        return f"{title} {where}"
    return title if kind < 0.93 else f"{title} {name(rng, split)}"


def value_word(rng: random.Random) -> str:
    """A word of a value in training: of the list, of the filler, rare, or invented."""
    kind = rng.random()
    if kind < 0.25 or not _rare:
        return rng.choice(WORDS[TRAIN])
    return rng.choice(_rare) if kind < 0.6 else word(rng)


def value(rng: random.Random, split: str, vocabulary: list[str] | None = None) -> str:
    """`vocabulary`: the words of the document's values, where they are few."""
    if split == TRAIN and rng.random() < 0.35:
        count = rng.choice((1, 2, 2, 3, 3, 3))
        return " ".join(rng.choice(vocabulary or [value_word(rng)]) for _ in range(count))
    kind = rng.random()
    if kind < 0.6:
        digits = rng.randrange(2, 7)
        return str(rng.randrange(10 ** (digits - 1), 10**digits))
    if kind < 0.7:
        letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.choice((1, 2))))
        return f"{letters}-{rng.randrange(10, 10 ** rng.randrange(2, 5))}"
    if kind < 0.8:
        return f"{rng.randrange(1, 29)} {rng.choice(MONTHS)} {rng.randrange(1700, 2100)}"
    count, listed = rng.choice((1, 1, 2, 3)), not _words or split != TRAIN or rng.random() < 0.5
    return " ".join(rng.choice(WORDS[split]) if listed else word(rng) for _ in range(count))


# How many attributes a document has, and how many places; 0: as many as there are facts.
FEW = {TRAIN: (1, 2, 3, 4, 5, 6, 8, 0, 0), HELD_OUT: (1, 2, 3, 5, 8, 0, 0, 0, 0)}


def make_facts(rng: random.Random, count: int, split: str) -> list[Fact]:
    """Distinct facts; many share an entity, a name, a place or most letters of a name.

    In most documents attributes and places are few, so that every fact has rivals.
    """
    facts: list[Fact] = []
    seen: set[tuple[str, str]] = set()
    few = rng.choice(FEW[split])
    what_pool = [attribute(rng, split) for _ in range(few)]
    few = rng.choice(FEW[split])
    where_pool = [place(rng, split) for _ in range(few)]
    vocabulary = []
    if split == TRAIN and rng.random() < 0.6:
        vocabulary = [value_word(rng) for _ in range(rng.randrange(4, 25))]
    while len(facts) < count:
        what = rng.choice(what_pool) if what_pool else attribute(rng, split)
        kind = rng.random() if facts else 1.0
        other = rng.choice(facts) if facts else None
        again = 0.12 if split == HELD_OUT else 0.2  # a name is easily all that is looked at
        if kind < again:  # the same entity, another attribute
            who, what = other.entity, near_attribute(rng, other.attribute, split)
        elif kind < again + 0.08 and " " in other.entity:  # the same name, another place
            who = entity(rng, split, [], next(w for w in other.entity.split() if w[0].isupper()))
        elif kind < again + 0.28:  # nearly the same name, the same attribute and place
            who = renamed(other.entity, lambda title: near_name(rng, title, split))
            what = other.attribute
        else:
            who = entity(rng, split, where_pool)
        fact = Fact(what, who, "")
        if fact.key not in seen:
            seen.add(fact.key)
            facts.append(dataclasses.replace(fact, value=value(rng, split, vocabulary)))
    return facts


def make_links(
    rng: random.Random, facts: list[Fact], count: int, split: str
) -> list[tuple[Link, Fact]]:
    """Persons tied to entities of the form "the Name place", one fact chosen for each."""
    usable = [fact for fact in facts if fact.entity.startswith("the ")]
    chosen = rng.sample(usable, min(count, len(usable)))
    return [(Link(name(rng, split), *rng.choice(LINKS), fact.entity), fact) for fact in chosen]


def make_absent(rng: random.Random, known: list[Fact], split: str) -> Fact:
    """What no fact says, or hardly any: the caller looks whether one does."""
    other = rng.choice(known)
    if rng.random() < 0.4:  # an entity of the document, another attribute
        return dataclasses.replace(other, attribute=attribute(rng, split), value=ABSENT)
    fact = make_facts(rng, 2, split)[1]
    if rng.random() < 0.5:
        fact = dataclasses.replace(fact, attribute=other.attribute)
    return dataclasses.replace(fact, value=ABSENT)


def make_rival(rng: random.Random, known: list[Fact], split: str) -> Fact:
    """What no fact says (the caller looks whether one does), although all of its parts are told."""
    other, more = rng.choice(known), rng.choice(known)
    kind, parts = rng.random(), other.entity.split()
    if kind < 0.55:  # the entity has another attribute
        told = rng.random() < 0.6
        what = more.attribute if told else near_attribute(rng, other.attribute, split)
        return dataclasses.replace(other, attribute=what, value=ABSENT)
    if kind < 0.68 and len(parts) > 1:  # the name belongs to another place
        who = " ".join([*parts[:-1], more.entity.split()[-1]])
    elif kind < 0.75:  # the name is nearly the same
        who = renamed(other.entity, lambda title: near_name(rng, title, split))
    else:
        who = renamed(other.entity, lambda _: name(rng, split))
    return Fact(other.attribute, who, ABSENT)
