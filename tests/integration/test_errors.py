"""What a new user gets wrong: each gives the contract's error, and the server lives on."""

import json

import pytest

CHAT = "/v1/chat/completions"
OK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
NESTED = b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


def assert_error(answer, status, error_type, param=..., code=...):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    error = body["error"]
    assert error["type"] == error_type
    assert isinstance(error["message"], str) and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    if param is not ...:
        assert error["param"] == param, error
    if code is not ...:
        assert error["code"] == code, error


@pytest.fixture(autouse=True)
def alive_afterwards(server):
    yield
    assert server.get("/livez").status_code == 200
    assert server.post(CHAT, json=OK).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"{}{}", NESTED,
                                  b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
                                  b'{"messages":[{"role":"user","content":"\\ud800"}]}',
                                  b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
                                  b'{"messages":[{"role":"user","content":"hi"}],'
                                  b'"temperature":1e400}'],
                         ids=["empty", "broken", "array", "null", "string", "two", "nested",
                              "utf8", "surrogate", "nan", "overflow"])
def test_broken_bodies(server, body):
    assert_error(server.post(CHAT, content=body, headers={"content-type": "application/json"}),
                 400, "invalid_request_error")


@pytest.mark.parametrize("field, value", [
    ("n", 10 ** 9), ("n", 0), ("n", -1), ("n", 1.5), ("n", "2"), ("n", 2 ** 70),
    ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", "many"), ("max_completion_tokens", -5),
    ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"), ("temperature", []),
    ("top_p", 0), ("top_p", 1.1), ("top_k", -2), ("min_p", 2), ("presence_penalty", 3),
    ("frequency_penalty", -3), ("repetition_penalty", 0), ("stop", ["a"] * 5), ("stop", [""]),
    ("stop", 7), ("stop_token_ids", [10 ** 9]), ("logit_bias", {"5": 101}),
    ("logit_bias", {"99999999": 1}), ("logit_bias", {"x": 1}), ("top_logprobs", 21),
    ("stream", "yes"), ("messages", []), ("messages", "hi"), ("messages", None),
    ("tools", [{"type": "web_search"}]), ("modalities", ["audio"]), ("priority", "high"),
    ("min_tokens", -1), ("attention", {"mode": "sparse"}), ("attention", {"top_k": 0})])
def test_values_out_of_range(server, field, value):
    answer = server.post(CHAT, json={**OK, field: value})
    assert_error(answer, 400, "invalid_request_error")
    assert answer.json()["error"]["param"].split(".")[0].split("[")[0] == field


@pytest.mark.parametrize("message, param", [
    ({"role": "user"}, "messages[0].content"), ({"content": "hi"}, "messages[0].role"),
    ({"role": "emperor", "content": "hi"}, "messages[0].role"),
    ({"role": "user", "content": 5}, "messages[0].content"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
     "messages[0].content[0].type")])
def test_bad_messages_name_the_place(server, message, param):
    assert_error(server.post(CHAT, json={**OK, "messages": [message]}), 400,
                 "invalid_request_error", param=param)


def test_unknown_fields_and_ignored_fields_are_let_through(server):
    answer = server.post(CHAT, json={**OK, "user": "u", "store": True, "metadata": {},
                                     "service_tier": "auto", "no_such_field": {"a": [1]}})
    assert answer.status_code == 200


def test_unknown_model(server):
    assert_error(server.post(CHAT, json={**OK, "model": "gpt-none"}), 404,
                 "invalid_request_error", code="model_not_found")


def test_unknown_route_and_wrong_method(server):
    assert_error(server.get("/v1/nothing"), 404, "invalid_request_error")
    wrong = server.get(CHAT)
    assert_error(wrong, 405, "invalid_request_error")
    assert wrong.headers["allow"] == "POST"


def test_prompt_longer_than_the_context_is_refused_with_both_numbers(start_server, make_text):
    with start_server("--max-model-len", "512") as small:
        answer = small.post(CHAT, json={**OK, "messages": [{"role": "user",
                                                            "content": make_text(2000)}]})
        assert_error(answer, 400, "invalid_request_error", code="context_length_exceeded")
        assert "512" in answer.json()["error"]["message"]
        stream = small.post(CHAT, json={**OK, "stream": True,
                                        "messages": [{"role": "user", "content": make_text(2000)}]})
        assert_error(stream, 400, "invalid_request_error", code="context_length_exceeded")
        assert small.post(CHAT, json={**OK, "max_tokens": 511}).status_code in (200, 400)


def test_hundred_megabyte_body(server):
    body = json.dumps({**OK, "messages": [{"role": "user", "content": "a" * 100_000_000}]})
    assert_error(server.post(CHAT, content=body.encode()), 413, "invalid_request_error")


def test_hundred_megabyte_chunked_body(server):
    def pieces():
        yield b'{"messages":[{"role":"user","content":"'
        for _ in range(1600):
            yield b"a" * 65536

    try:
        answer = server.post(CHAT, content=pieces())
    except Exception as error:  # the server may close while the client still writes
        assert "closed" in str(error).lower() or "broken" in str(error).lower() \
            or "reset" in str(error).lower() or not str(error), error
    else:
        assert_error(answer, 413, "invalid_request_error")


def test_queue_full_says_when_to_come_back(start_server, make_text):
    with start_server("--max-queued-tokens", "2000", "--max-num-seqs", "1",
                      "--max-step-tokens", "64") as small:
        import concurrent.futures
        body = {**OK, "messages": [{"role": "user", "content": make_text(1200)}], "max_tokens": 200,
                "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: small.post(CHAT, json=body), range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and any(answer.status_code == 200 for answer in answers)
        assert_error(refused[0], 429, "rate_limit_error", code="rate_limit_exceeded")
        assert float(refused[0].headers["retry-after"]) > 0


def test_tokenize_refuses_what_it_cannot_read(server):
    assert_error(server.post("/tokenize", json={}), 400, "invalid_request_error", param="prompt")
    assert_error(server.post("/detokenize", json={"tokens": [10 ** 9]}), 400,
                 "invalid_request_error", param="tokens")
    assert_error(server.post("/detokenize", json={"tokens": [-1]}), 400, "invalid_request_error",
                 param="tokens")
