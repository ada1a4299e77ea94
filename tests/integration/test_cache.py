"""Prefix reuse, progress and keep-alive comments: what a long document needs."""

import json

import httpx

from conftest import MODEL

FACT = "The access code of the Meage vault is 619."


def messages(document, question="What is the access code of the Meage vault?"):
    return [{"role": "system", "content": document}, {"role": "user", "content": question}]


def ask(client, document, question="What is the access code of the Meage vault?", **kwargs):
    return client.chat.completions.create(model=MODEL, messages=messages(document, question),
                                          temperature=0, max_tokens=24, **kwargs)


def cached(answer):
    return answer.usage.prompt_tokens_details.cached_tokens


def test_second_question_reuses_the_document(client, make_text):
    document = make_text(3000, seed=1) + "\n" + FACT
    first = ask(client, document)
    second = ask(client, document, "Tell me the access code of the Meage vault.")
    again = ask(client, document)
    assert cached(first) == 0
    assert cached(second) >= first.usage.prompt_tokens - 64 - 40
    assert cached(second) % 64 == 0
    assert again.choices[0].message.content == first.choices[0].message.content
    assert cached(again) >= cached(second)


def test_cached_and_cold_answers_are_equal(start_server, make_text):
    document = make_text(2500, seed=2) + "\n" + FACT + "\n" + make_text(500, seed=3)
    with start_server("--no-prefix-cache") as cold, start_server() as warm:
        expected = ask(cold.openai(), document)
        ask(warm.openai(), document, "Who reads this?")
        hit = ask(warm.openai(), document)
        assert cached(expected) == 0 and cached(hit) > 2000
        assert hit.choices[0].message.content == expected.choices[0].message.content


def test_a_salt_keeps_prefixes_apart(client, make_text):
    document = make_text(1000, seed=4)
    ask(client, document, extra_body={"cache_salt": "a"})
    assert cached(ask(client, document, extra_body={"cache_salt": "b"})) == 0
    assert cached(ask(client, document, extra_body={"cache_salt": "a"})) > 0


def test_another_attention_does_not_reuse_what_it_would_not_have_computed(client, make_text):
    document = make_text(1500, seed=5)
    ask(client, document)
    full = ask(client, document, extra_body={"attention": {"mode": "full"}})
    assert cached(full) == 0


def test_api_keys_do_not_share_prefixes(start_server, make_text):
    document = make_text(800, seed=6)
    with start_server("--api-key", "alpha", "--api-key", "beta") as server:
        ask(server.openai("alpha"), document)
        assert cached(ask(server.openai("beta"), document)) == 0
        assert cached(ask(server.openai("alpha"), document)) > 0


def test_progress_is_opt_in_and_ends_at_the_total(start_server, make_text):
    with start_server("--max-step-tokens", "256") as server:
        body = {"messages": messages(make_text(2000, seed=7)), "temperature": 0, "max_tokens": 4,
                "stream": True, "return_progress": True}
        with httpx.stream("POST", server.url + "/v1/chat/completions", json=body,
                          timeout=60) as answer:
            chunks = [json.loads(line[6:]) for line in answer.iter_lines()
                      if line.startswith("data: {")]
        progress = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
        assert len(progress) >= 4
        done = [entry["processed"] for entry in progress]
        assert done == sorted(done) and done[-1] == progress[-1]["total"]
        assert all(chunk["choices"] == [] for chunk in chunks if "prompt_progress" in chunk)
        first_choice = next(i for i, chunk in enumerate(chunks) if chunk["choices"])
        assert all("prompt_progress" not in chunk for chunk in chunks[first_choice:])
        del body["return_progress"]
        plain = server.post("/v1/chat/completions", json=body).text
        assert "prompt_progress" not in plain


def test_silent_streams_carry_comments(start_server, make_text):
    with start_server("--keepalive", "0.05", "--backend", "reference",
                      "--max-step-tokens", "128") as server:
        body = {"messages": messages(make_text(1500, seed=8)), "temperature": 0, "max_tokens": 2,
                "stream": True}
        with httpx.stream("POST", server.url + "/v1/chat/completions", json=body,
                          timeout=120) as answer:
            lines = [line for line in answer.iter_lines() if line]
        first_data = next(i for i, line in enumerate(lines) if line.startswith("data:"))
        assert any(line.startswith(":") for line in lines[:first_data])
