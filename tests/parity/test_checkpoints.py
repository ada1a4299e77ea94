"""Checkpoints that transformers makes on the spot, as users get them: in shards, in every dtype, with a tokenizer
and a chat template; through the real server, beside transformers itself."""

import os
import random
import subprocess
import sys

import pytest
import torch
import transformers

from comparison import BUILD_DIR, SALT, TOOLS, integration, jinja_golden
import make_bpe_golden
import make_hf_architectures as architectures

VOCAB = 640  # the tokenizers have some 500
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NEAR = 1e-3  # of a log probability, both sides in float32
F32 = ["--backend", "reference", "--weights", "f32", "--kv-dtype", "f32", "--attention", "full"]
TOKENIZERS = dict(make_bpe_golden.families())
TEMPLATES = jinja_golden.FAMILIES
NUM_TEXTS = 60


def number(name):
    return [case[0] for case in architectures.CASES].index(name)


def pick(values, i):
    return list(values)[i % len(values)]


@pytest.fixture(scope="module", params=[case[0] for case in architectures.CASES])
def checkpoint(request, tmp_path_factory):
    """name, folder, transformers' model in float32."""
    name, kind, fields = architectures.CASES[number(request.param)]
    folder = tmp_path_factory.mktemp("model")
    model = architectures.make_model(
        kind, {**fields, "vocab_size": VOCAB}, folder, SALT + name,
        dtype=pick(DTYPES, number(name)), max_shard_size="150KB")
    assert (folder / "model.safetensors.index.json").exists()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pick(TOKENIZERS.values(), number(name)))
    tokenizer.chat_template = pick(TEMPLATES.values(), number(name))
    tokenizer.save_pretrained(folder)
    return name, folder, model


@pytest.fixture(scope="module")
def server(checkpoint):
    with integration.running(*F32, model=checkpoint[1]) as started:
        yield started


def test_64_greedy_tokens_in_f32_read_and_from_the_cache(checkpoint, server):
    name, _, model = checkpoint
    with torch.inference_mode():
        prompt, tokens, logits = architectures.clearest_prompt(model, SALT + name)
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()
    request = {"prompt": prompt, "max_tokens": len(tokens), "temperature": 0, "ignore_eos": True,
               "logprobs": 0, "return_token_ids": True}
    for cached in (False, True):
        response = server.post("/v1/completions", json=request)
        assert response.status_code == 200, response.text
        body = response.json()
        assert (body["usage"]["prompt_tokens_details"]["cached_tokens"] > 0) == cached
        choice = body["choices"][0]
        assert choice["token_ids"] == tokens
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=NEAR)


def random_texts(name):
    chance = random.Random(SALT + name)
    ranges = make_bpe_golden.assigned_ranges()
    words = ["the", " house", "it's", "I'LL", "1234567", "\n\n", "  ", "\t", "🙂", "e\u0301", "日本", ".", "Word", "\r\n"]

    def character():
        first, last = chance.choice(ranges)
        return chr(chance.randint(first, last))

    for i in range(NUM_TEXTS):
        yield "".join(character() if chance.random() < 0.3 else chance.choice(words)
                      for _ in range(1 + i * 3))


def test_ids_of_random_texts(checkpoint, server):
    name, folder, _ = checkpoint
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for text in random_texts(name):
        response = server.post("/tokenize", json={"prompt": text, "add_special_tokens": False})
        assert response.json()["tokens"] == tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True), text


def test_prompts_of_conversations(checkpoint, server):
    _, folder, _ = checkpoint
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for messages in (jinja_golden.TALK[:2], jinja_golden.TALK[3:]):
        messages = [{**message, "content": message["content"].replace("<|im_end|>", "")}
                    for message in messages]
        try:
            expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True,
                                                     return_dict=False)
        except Exception:
            expected = None
        response = server.post("/tokenize", json={"messages": messages})
        assert response.status_code == (400 if expected is None else 200), response.text
        assert response.json().get("tokens") == expected


def test_every_logit_in_bf16_and_f32_in_any_chunks(tmp_path):
    """The everyday test of the architectures, with weights and prompts that it has never seen."""
    golden = tmp_path / "hf_architectures.json"
    subprocess.run([sys.executable, TOOLS / "make_hf_architectures.py", golden, "--salt", SALT],
                   check=True)
    subprocess.run([BUILD_DIR / "tests" / "models" / "quire_models_tests", "every architecture*"],
                   env={**os.environ, "QUIRE_HF_ARCHITECTURES": str(golden)}, check=True)
