#!/usr/bin/env python3
"""Golden ids for tests/engine/bpe_tokenizer_test.cc: small tokenizers, and what the reference library makes of hard
texts.

    pip install tokenizers
    python3 models/tools/make_bpe_golden.py tests/engine/data/bpe_golden.json

The tokenizers cut and normalise as families of published models do; their vocabularies are trained on this file.
"""

import argparse
import json
import pathlib
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARKER = "\u2581"
SPECIAL = ["<|begin|>", "<|end|>", "<|user|>"]
PROSE = ["The house on the hill has been empty for a hundred years, they said; it's not true, we've been there.",
         "Das große Haus über dem Fluß, où l'été dure longtemps, ¿verdad? Да, это правда. 日本語の文章と中文。",
         "for (int i = 0; i < 1024; ++i) {\n    values[i] += i * 3.14159;\n\treturn std::string(\"x\");\n}\r\n",
         "one  two   three    four\n\n\n\n     five \t six 1234567890 2024-01-01 100,000.00 !!! ... --- === ???"]
EMOJI = ["👩‍👩‍👧‍👦👨🏿‍🚀🏳️‍🌈🏴‍☠️🇩🇪🇫🇷🇺🇳👍🏽❤️‍🔥1️⃣#️⃣*️⃣🏴"
         "\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F",
         "🙂 🙂🙂a🙂1 x🙂", "☺\uFE0E☺\uFE0F\u200D♂",
         "🇩🇩🇩🇩🇩", "\u200D\u200D\uFE0F\uFE0F"]
CODE = ["#!/bin/sh\nset -e\nfor f in *.c; do\n\tcc -O2 -o \"${f%.c}\" \"$f\" || exit 1\ndone\n",
        "def f(x: int = 0x1F) -> dict[str, float]:\n    \"\"\"It's.\"\"\"\n    return {'a': 1e-9, **{k: v for k, v in x}}  # !\n",
        "template<class T>\nauto&& f(T&& t) noexcept(noexcept(t())) -> decltype(auto) { return std::move(t)->*p; }\r\n\r\n",
        "SELECT a.id,COUNT(*)AS n FROM t a LEFT JOIN u ON a.id=u.a_id WHERE x<>'it''s' GROUP BY 1;--c\n",
        "{\"a\":[1,2.50,-3e+7,null,true],\"b\\u00e9\":\"\\n\\t\\\\\"}", "<a href='x?y=1&amp;z=%20#q'>&nbsp;</a><!-- -->\n\n\n  </div>",
        "\t\t\tif(a&&b||!c){x+=y<<=2;}else{z=a?b:c;}//===\n\n\n\t\t\t}\n", "\\frac{\\partial^2 u}{\\partial x^2}=0 \\quad\\forall x\\in\\mathbb{R}^{n}"]
MAX_LISTED = 120


def byte_level(split, **options):
    tokenizer = Tokenizer(BPE(ignore_merges=options.get("ignore_merges", False)))
    if options.get("normalizer"):
        tokenizer.normalizer = options["normalizer"]
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tokenizer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def train(tokenizer, initial_alphabet, special=SPECIAL):
    # Not on special tokens: no merge shall make one.
    lines = pathlib.Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [line for line in lines if "<" not in line] + PROSE * 4
    tokenizer.train_from_iterator(lines, BpeTrainer(
        vocab_size=500, show_progress=False, special_tokens=special, initial_alphabet=initial_alphabet))


def pattern(text, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(text), behavior, invert)


def plain_bytes(use_regex=False, add_prefix_space=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def llama2(pre_tokenizer=None, byte_fallback=True):
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else [])
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    if pre_tokenizer is None:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(MARKER), normalizers.Replace(" ", MARKER)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(MARKER)
    train(tokenizer, [], special)
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    file["pre_tokenizer"] = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer else None
    file["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": MARKER}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def families():
    sequence = pre_tokenizers.Sequence
    llama3 = byte_level(sequence([pattern(LLAMA3), plain_bytes()]), ignore_merges=True)
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
                                      special_tokens=[("<|begin|>", 0)])])
    yield "llama3", llama3
    qwen2 = byte_level(sequence([pattern(QWEN2), plain_bytes()]), normalizer=normalizers.NFC())
    qwen2.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<tool_call>", normalized=False)])
    yield "qwen2", qwen2
    yield "tekken", byte_level(sequence([pattern(TEKKEN), plain_bytes()]))
    yield "gpt2", byte_level(plain_bytes(use_regex=True))
    yield "roberta spaces", byte_level(plain_bytes(use_regex=True, add_prefix_space=True))
    yield "smollm2", byte_level(sequence([pre_tokenizers.Digits(individual_digits=True), plain_bytes(True)]))
    added = byte_level(sequence([pre_tokenizers.Digits(), plain_bytes()]), normalizer=normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase()]))
    added.add_tokens([AddedToken("Word", single_word=True), AddedToken("LEFT", lstrip=True),
                      AddedToken("right", rstrip=True, normalized=False), AddedToken("LEFTOVER", normalized=False)])
    yield "added tokens", added
    yield "nfkc", byte_level(plain_bytes(True), normalizer=normalizers.NFKC())
    yield "nfd", byte_level(plain_bytes(True), normalizer=normalizers.Sequence(
        [normalizers.NFD(), normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")]))
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        yield behavior, byte_level(sequence([pattern(r"[\p{P}\s]", behavior), plain_bytes()]))
    yield "inverted", byte_level(sequence([pattern(r"\p{L}+", "merged_with_previous", True), plain_bytes()]))
    yield "llama2", llama2()
    for scheme in ("always", "first", "never"):
        yield f"metaspace {scheme}", llama2(pre_tokenizers.Metaspace(MARKER, scheme, split=scheme != "first"))
    yield "unknown", llama2(byte_fallback=False)


def has_known_forms(c):
    """Whether the reference library normalises it as Unicode 14 does. It does not know the classes and compatible
    forms of some 120 characters that are younger than its tables."""
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normalizer = getattr(normalizers, form)()
        for text in (chr(c), "a" + chr(c) + "\u0301"):
            if normalizer.normalize_str(text) != unicodedata.normalize(form, text):
                return False
    return True


def assigned_ranges():
    """[first, last] of the code points that are assigned in Unicode 14."""
    assert unicodedata.unidata_version == "14.0.0", "python 3.11 has the right tables"
    ranges = []
    for c in range(0x110000):
        is_assigned = unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")
        if (is_assigned and has_known_forms(c)) or c in (0xE000, 0xF8FF, 0xF0000, 0x10FFFD):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    return ranges


def hard_texts():
    """Texts as lists of parts: [text, times], or {"ranges", "between"}: all code points of the ranges, with a text
    between each and the next."""
    spaces = [chr(c) for c in (9, 10, 11, 12, 13, 28, 31, 32, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x200A, 0x200B,
                               0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF)]
    whole = ["", " ", "a", "  ", "\n", " \n \n  x", "it's IT'S I'LL we'Ve 'ſ 'S'd'D", "<|user|>", "x<|begin|>y <s>",
             "<think>x</think> <tool_call>", "Word words aWord Word, LEFT  LEFT x LEFTOVER right  right\n\ny right",
             "word WORD left \u00A0LEFT LEFTRIGHTright rightleft", MARKER, MARKER * 3 + "a" + MARKER, "a " + MARKER,
             "".join(chr(c) for c in range(128)), "".join(chr(c) + "a" for c in range(128, 400)),
             "x".join(spaces), "".join(s * 2 + "y " for s in spaces), "e\u0301 e\u0323\u0301 \u1100\u1161\u11A8 ﬁ ½ Å İ",
             "\u0301" * 9 + "\u0323" * 9, "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🇫🇷👍🏽❤️", "\U0010FFFF\uFFFD\uE000\U000F0000", "१२३٤٥٦Ⅷ²³½1234567",
             *PROSE, "the house the HOUSE The House houSE HouseBoat hOUSE"]
    texts = [[[text, 1]] for text in whole]
    ranges = assigned_ranges()
    texts += [[{"ranges": ranges, "between": between}] for between in ("", "x", " ", "\u0301")]
    texts += [[{"ranges": [r], "between": "a"}] for r in ranges[::40]]
    texts += [[[text, 1]] for text in EMOJI + CODE]
    chance = random.Random(1)
    bits = spaces + ["the", "house", "Haus", "x1", "42", "1", ".", ",", "'s", "'", "-", "é", "e\u0301", "日本", "🙂", "_",
                     "<|end|>", "<think>", "right", "LEFT", "Word", MARKER, " ", " ", "  ", "\n", "\r\n", "\0", "\x7f"]
    texts += [[["".join(chance.choice(bits) for _ in range(40)), 1]] for _ in range(15)]
    whites = [chr(c) for c in range(0x3001) if chr(c).isspace() or unicodedata.category(chr(c)) in ("Zs", "Cf", "Cc")]
    texts += [[[before + white * times + after, 1] for white in whites] for times in (1, 2, 3)
              for before, after in (("", ""), ("a", "b"), (".", "1"), (" ", "\n"))]
    texts += [[[unit, 400], ["x", 1]] for unit in ("a", " ", "\n", "the", "é", "1", "!", "\t \n", "ab ", MARKER)]
    return texts


def long_texts():
    """One word of 10 MB, of one letter and of many: only for the families named here."""
    chance = random.Random(2)
    word = "".join(chance.choice("eeeeettttaaaooiinnsshhrdlucmfwypvbgkqjxz") for _ in range(9973))
    return [[["e", 10_000_000]], [[word, 1003]]], ("llama3", "qwen2", "llama2")


def hash_of(ids):
    """FNV-1a, a word at a time."""
    value = 0xCBF29CE484222325
    for token in ids:
        value = (value ^ token) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def expand(part):
    if isinstance(part, dict):
        return part["between"].join(chr(c) for first, last in part["ranges"] for c in range(first, last + 1))
    return part[0] * part[1]


def compact(ids):
    """The ids, equal neighbours as [id, times]; or, of many, their number and hash."""
    runs = run_lengths(ids)
    return runs if len(runs) <= MAX_LISTED else {"count": len(ids), "hash": hash_of(ids)}


def run_lengths(ids):
    runs = []
    for token in ids:
        if runs and runs[-1][0] == token:
            runs[-1][1] += 1
        else:
            runs.append([token, 1])
    return [run[0] if run[1] == 1 else run for run in runs]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=pathlib.Path)
    texts = hard_texts()
    more, of_more = long_texts()
    cases = []
    output = parser.parse_args().output
    for name, tokenizer in families():
        tokenizer.encode_special_tokens = True
        golden = []
        for parts in texts + (more if name in of_more else []):
            text = "".join(map(expand, parts))
            golden.append(compact(tokenizer.encode(text, add_special_tokens=False).ids))
        front = tokenizer.encode("a").ids[:1] if len(tokenizer.encode("").ids) == 1 else []
        cases.append({"name": name, "tokenizer": json.loads(tokenizer.to_str()), "bos": front, "ids": golden})
    texts += more
    output.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    output.write_text('{"texts":' + json.dumps(texts) + ',\n"cases":[\n' + rows + "]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
