#!/usr/bin/env python3
"""Golden ids for tests/engine/load_tokenizer_test.cc: what Hugging Face transformers makes of folders with a
tokenizer.json.

    pip install tokenizers transformers
    cd tests/engine/data
    python3 ../../../models/tools/make_folder_golden.py bpe_golden.json tokenizer_folders.json

The tokenizers are those that make_bpe_golden.py wrote, by their names. What differs is said beside them:
tokenizer_config.json and the model's type.
"""

import argparse
import copy
import json
import pathlib
import tempfile

from tokenizers import Tokenizer
from transformers import AutoTokenizer

MARKER = "\u2581"
TEXTS = ["the house", " the house", "  the  house ", "", " ", "\nthe\n", MARKER + "the", "a" + MARKER + MARKER + "b",
         "the[INST] house[/INST]x", "Word aWord in  sin x", "日本 🙂\x00", "house " * 20, "<think>it's</think>", "\u00A0x"]


def added(content, **flags):
    token = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
             "special": False}
    return {**token, **flags}


def cases(tokenizers):
    """name, tokenizer, tokenizer_config.json (None: absent), model_type"""
    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for tokenizer in ("llama2", "metaspace never", "metaspace first"):
        yield f"a Llama of {tokenizer}", tokenizer, llama, "llama"
        yield f"an early Llama of {tokenizer}", tokenizer, {**llama, "legacy": True}, "llama"
    yield "a Llama without a prefix", "llama2", {**llama, "add_prefix_space": False}, "llama"
    yield "a Llama's class as it was called", "llama2", {**llama, "tokenizer_class": "LlamaTokenizerFast"}, "llama"
    yield "a Llama without tokenizer_config.json", "llama2", None, "llama"
    yield "a Mistral", "llama2", {**llama, "legacy": False}, "mistral"
    yield "a Llama of no class", "llama2", fast, "llama"
    yield "a byte-level tokenizer under a Llama's class", "llama3", {"tokenizer_class": "LlamaTokenizerFast"}, "llama"
    yield "add_bos_token false beside a template", "llama3", {**fast, "add_bos_token": False}, "llama"
    yield "add_eos_token true beside a template", "llama3", {**fast, "add_eos_token": True}, "llama"
    yield "add_bos_token true without a template", "gpt2", {
        **fast, "add_bos_token": True, "bos_token": "<|begin|>"}, "llama"
    size = tokenizers["qwen2"].get_vocab_size()
    decoder = {"0": added("<|begin|>", special=True), str(size): added("[INST]"),
               str(size + 1): added("[/INST]", rstrip=True), str(size + 2): added("<|image|>", special=True)}
    yield "tokens that only the config adds", "qwen2", {**fast, "added_tokens_decoder": decoder}, "llama"
    first = size - 2
    decoder = {str(first): added("<think>", special=True), str(first + 1): added("<tool_call>", single_word=True)}
    yield "flags that the config changes", "qwen2", {**fast, "added_tokens_decoder": decoder}, "qwen3"
    word = tokenizers["gpt2"].token_to_id("in")
    yield "a word that is added", "gpt2", {**fast, "added_tokens_decoder": {str(word): added("in")}}, "llama"


def ids_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)._tokenizer
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    # Not of texts that spell a special token: here it has to be found in front of them.
    behind = [None if any(name in text for name in special) else
              tokenizer.encode(special[0] + text, add_special_tokens=False).ids[1:] for text in TEXTS]
    front = tokenizer.encode("").ids
    tokenizer.encode_special_tokens = True
    return {"bos": front, "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS],
            "behind": behind}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizers", type=pathlib.Path, help="bpe_golden.json")
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()
    golden = json.loads(args.tokenizers.read_text(encoding="utf-8"))["cases"]
    tokenizers = {case["name"]: Tokenizer.from_str(json.dumps(case["tokenizer"])) for case in golden}
    rows = []
    for name, tokenizer, config, model_type in cases(tokenizers):
        with tempfile.TemporaryDirectory() as folder:
            write = lambda file, value: pathlib.Path(folder, file).write_text(json.dumps(value), encoding="utf-8")
            tokenizers[tokenizer].save(f"{folder}/tokenizer.json")
            write("config.json", {"model_type": model_type})
            if config is not None:
                write("tokenizer_config.json", copy.deepcopy(config))
            rows.append({"name": name, "tokenizer": tokenizer, "tokenizer_config": config, "model_type": model_type,
                         **ids_of(folder)})
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    args.output.write_text('{"texts":' + json.dumps(TEXTS) + ',\n"cases":[\n' + lines + "]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
