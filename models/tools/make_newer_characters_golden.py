#!/usr/bin/env python3
"""Golden ids for tests/engine/bpe_tokenizer_test.cc: what the reference library makes of the characters that it knows
and Unicode 14, which PCRE2 has tables of, does not.

    pip install tokenizers
    cd tests/engine/data
    python3 ../../../models/tools/make_newer_characters_golden.py bpe_golden.json newer_characters_golden.json

The tokenizers are those of the first file that do not normalise: as a normaliser the library is older.
"""

import argparse
import json
import pathlib
import unicodedata

from tokenizers import Regex, Tokenizer, pre_tokenizers

from make_bpe_golden import compact, expand

TOKENIZERS = ["llama3", "tekken", "gpt2", "smollm2", "removed", "merged_with_next", "contiguous", "inverted"]
BETWEEN = ["", "x", " ", "1", "\n", "A!"]


def newer_ranges():
    """[first, last] of the code points that are assigned to the library and not in Unicode 14."""
    assert unicodedata.unidata_version == "14.0.0", "python 3.11 has the right tables"
    assigned = pre_tokenizers.Split(Regex(r"\P{Cn}"), "isolated", False)
    ranges = []
    for c in range(0x110000):
        if unicodedata.category(chr(c)) != "Cn" or len(assigned.pre_tokenize_str(f"\uFFFF{chr(c)}\uFFFF")) == 1:
            continue
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizers", type=pathlib.Path, help="bpe_golden.json")
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()
    ranges = newer_ranges()
    texts = [[{"ranges": ranges, "between": between}] for between in BETWEEN]
    texts += [[{"ranges": [r], "between": "a "}] for r in ranges]
    rows = []
    for case in json.loads(args.tokenizers.read_text(encoding="utf-8"))["cases"]:
        if case["name"] in TOKENIZERS:
            tokenizer = Tokenizer.from_str(json.dumps(case["tokenizer"]))
            ids = [compact(tokenizer.encode("".join(map(expand, parts)), add_special_tokens=False).ids)
                   for parts in texts]
            rows.append(json.dumps({"name": case["name"], "ids": ids}, separators=(",", ":")))
    args.output.write_text('{"texts":' + json.dumps(texts, separators=(",", ":")) + ',\n"cases":[\n'
                           + ",\n".join(rows) + "]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
