"""/v1/completions, /tokenize and /detokenize."""

import pytest

from conftest import MODEL

PROMPTS = ["The quick brown fox", "A cache holds"]


def complete(client, **kwargs):
    return client.completions.create(**{"model": MODEL, "prompt": PROMPTS[0],
                                        "temperature": 0, "max_tokens": 8, **kwargs})


def test_text_and_shape(client):
    answer = complete(client)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.usage.completion_tokens <= 8 and answer.choices[0].text


def test_token_ids_and_text_are_the_same_prompt(client, server):
    ids = server.post("/tokenize", json={"prompt": PROMPTS[0]}).json()["tokens"]
    assert complete(client, prompt=ids).choices[0].text == complete(client).choices[0].text


def test_several_prompts_keep_their_order_and_results(client):
    both = complete(client, prompt=PROMPTS, n=2)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    for number, choice in enumerate(both.choices):
        alone = complete(client, prompt=PROMPTS[number // 2])
        assert choice.text == alone.choices[0].text


def test_echo_puts_the_prompt_first(client):
    echoed = complete(client, echo=True).choices[0].text
    assert echoed == PROMPTS[0] + complete(client).choices[0].text


def test_default_max_tokens_is_sixteen(client):
    answer = client.completions.create(model=MODEL, prompt=PROMPTS[0], temperature=0,
                                       extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_stream_gives_the_same_text(client):
    text = "".join(chunk.choices[0].text for chunk in complete(client, stream=True)
                   if chunk.choices)
    assert text == complete(client).choices[0].text


def test_logprobs_in_the_old_shape(client):
    logprobs = complete(client, logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
    assert all(len(top) >= 1 for top in logprobs.top_logprobs)


@pytest.mark.parametrize("text, normalized", [
    ("plain words", "plain words"), ("naïve 漢字 🙂", "naïve 漢字 🙂"), ("", ""),
    ("<s></s><unk>", "<s></s><unk>"), ("<|user|>", "<|user|>"),
    ("  two  spaces \n\n and\ttabs ", "two spaces and tabs"), (" ", ""), ("ﬁ ½", "fi 1⁄2"),
    ("\u0000\u0001control", "\u0000control")])
def test_detokenize_undoes_tokenize_up_to_the_models_normalizer(server, text, normalized):
    def encode(prompt):
        return server.post("/tokenize", json={"prompt": prompt, "add_special_tokens": False}).json()

    ids = encode(text)
    assert ids["count"] == len(ids["tokens"])
    back = server.post("/detokenize", json={"tokens": ids["tokens"]}).json()["prompt"]
    assert back == normalized
    assert encode(back)["tokens"] == ids["tokens"]
