#!/usr/bin/env python3
"""Golden ids for tests/engine/gguf_tokenizer_test.cc: tokenizers that cut text as the tokenizer.json of models whose
GGUF names a pre-tokenizer of its own, and what the reference library makes of hard texts.

    pip install tokenizers
    cd tests/engine/data && python3 ../../../models/tools/make_gguf_bpe_golden.py bpe_golden.json gguf_bpe_golden.json

The texts are those of the first file. The vocabularies are trained on make_bpe_golden.py.
"""

import argparse
import json
import pathlib

from tokenizers import pre_tokenizers

from make_bpe_golden import LLAMA3, byte_level, compact, expand, pattern, plain_bytes

MAX_CHARACTERS = 1_000_000  # longer texts are for the merges
CASED_LETTERS = (
    "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"
    "\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5"
    "\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA"
    "\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45"
    "\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE"
    "\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102"
    "\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139"
    "\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3"
    "\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06"
    "\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3"
    "\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF"
    "\U0001E900-\U0001E943")
PUNCTUATION = "[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]"
ASIAN = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"
SEED_CODER = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}{1}").replace(r" ?[^\s\p{L}\p{N}]+[\r\n]*",
                                                               r" ?[^\s\p{L}\p{N}\r\n]+")
VIKING = " ?[^(\\s|[.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C])]+"


def steps():
    """What stands before the bytes in the models' files."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    yield "deepseek-llm", [pattern("[\r\n]"), pattern(rf"\s?[{CASED_LETTERS}]+"), pattern(rf"\s?{PUNCTUATION}+"),
                           pattern(r"\s+$"), pattern(ASIAN), digits]
    yield "deepseek-coder", [pattern("[\r\n]"), pattern(r"\s?\p{L}+"), pattern(r"\s?\p{P}+"), pattern(ASIAN), digits]
    yield "seed-coder", [pattern(SEED_CODER)]
    yield "viking", [pattern(VIKING), digits]
    yield "minicpm5", [pattern(r"\p{N}{1,3}"), pattern(LLAMA3.replace("{1,3}", "+"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    texts = ["".join(map(expand, parts)) for parts in json.loads(options.texts.read_text(encoding="utf-8"))["texts"]]
    rows = []
    for pre, cuts in steps():
        tokenizer = byte_level(pre_tokenizers.Sequence([*cuts, plain_bytes()]))
        tokenizer.encode_special_tokens = True
        ids = [compact(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts
               if len(text) <= MAX_CHARACTERS]
        case = {"pre": pre, "tokenizer": json.loads(tokenizer.to_str()), "ids": ids}
        rows.append(json.dumps(case, separators=(",", ":")))
    options.output.write_text("[\n" + ",\n".join(rows) + "]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
