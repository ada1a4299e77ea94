"""What the everyday tests compare with is what the installed packages say today."""

import json
import subprocess
import sys

import pytest
from tokenizers import Tokenizer

from comparison import GOLDEN, SOURCE_DIR, TOOLS, jinja_golden
import make_bpe_golden

NEAR = 1e-3  # of a logit in float32: another machine adds in another order


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def made_again(tool, tmp_path, *args):
    output = tmp_path / "golden.json"
    subprocess.run([sys.executable, TOOLS / tool, *args, output], check=True)
    return load(output)


def assert_same(ours, theirs, where=""):
    """Equal but for the last digits of a number."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, (left, right) in enumerate(zip(ours, theirs)):
            assert_same(left, right, f"{where}[{i}]")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=NEAR, rel=NEAR), where
    else:
        assert ours == theirs, where


def test_rope_frequencies(tmp_path):
    assert made_again("make_hf_rope_golden.py", tmp_path) == load(GOLDEN / "models" / "hf_rope.json")


def test_numbers_of_gguf_blocks(tmp_path):
    assert made_again("make_block_golden.py", tmp_path) == load(
        GOLDEN / "kernels" / "data" / "block_golden.json")


def test_numbers_of_fp8(tmp_path):
    assert made_again("make_fp8_golden.py", tmp_path) == load(GOLDEN / "models" / "fp8.json")


def test_logits_of_every_architecture(tmp_path):
    committed = load(GOLDEN / "models" / "hf_architectures.json")
    made = made_again("make_hf_architectures.py", tmp_path)
    for old, new in zip(committed["cases"], made["cases"], strict=True):
        # An estimate from random roundings, and the version that saved the folder.
        for case in (old, new):
            del case["deviation"]
            case["config"].pop("transformers_version", None)
        assert_same(old, new, old["name"])


@pytest.mark.parametrize("case", load(GOLDEN / "engine" / "data" / "bpe_golden.json")["cases"],
                         ids=lambda case: case["name"])
def test_ids_of_hard_texts(case):
    texts = load(GOLDEN / "engine" / "data" / "bpe_golden.json")["texts"]
    tokenizer = Tokenizer.from_str(json.dumps(case["tokenizer"]))
    tokenizer.encode_special_tokens = True
    assert len(case["ids"]) <= len(texts)
    for parts, ids in zip(texts, case["ids"]):
        text = "".join(map(make_bpe_golden.expand, parts))
        assert make_bpe_golden.compact(tokenizer.encode(text, add_special_tokens=False).ids) == ids


def test_ids_of_newer_characters(tmp_path):
    data = GOLDEN / "engine" / "data"
    assert made_again("make_newer_characters_golden.py", tmp_path, data / "bpe_golden.json") == load(
        data / "newer_characters_golden.json")


def test_tokenizers_of_folders(tmp_path):
    data = GOLDEN / "engine" / "data"
    assert made_again("make_folder_golden.py", tmp_path, data / "bpe_golden.json") == load(
        data / "tokenizer_folders.json")


def test_chat_templates():
    for case in load(GOLDEN / "engine" / "jinja" / "golden.json"):
        made = jinja_golden.rendered(case["name"], case["template"], case["values"])
        assert made == case


def test_logits_of_the_bundled_model(tmp_path):
    model = SOURCE_DIR / "models" / "quire-6m"
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model.iterdir():
        if file.name != "hf_logits.json":
            (folder / file.name).symlink_to(file)
    subprocess.run([sys.executable, TOOLS / "make_hf_golden.py", folder], check=True)
    committed, made = load(model / "hf_logits.json"), load(folder / "hf_logits.json")
    for old, new in zip(committed["cases"], made["cases"], strict=True):
        for case in (old, new):
            for row in case["logits"]:
                row["top"] = [entry[:2] for entry in row["top"]]  # without the estimated deviation
        assert_same(old, new, old["name"])
    assert committed["chat"] == made["chat"]
