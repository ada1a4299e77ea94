"""The same requests through HTTP and gRPC: the same answers, the same refusals."""

from typing import NamedTuple

import grpc
import pytest

from conftest import MODEL, numbered_text
from grpc_client import Answer, ask_grpc, ask_http, ask_http_stream, grpc_refusal

CONTEXT = 8192
FACT = "The access code of the Meage vault is 619."
QUESTION = {"role": "user", "content": "What is the access code of the Meage vault?"}
LONG = numbered_text(900, seed=1) + f"\n{FACT}\n" + numbered_text(900, seed=2)
WIDE = "naïve 漢字 🙂 — ¿qué?"


def chat(text=FACT, **options):
    return {"messages": [{"role": "system", "content": text}, QUESTION], "temperature": 0,
            "max_tokens": 24, "return_token_ids": True, **options}


def completion(prompt="The quick brown fox", **options):
    return {"prompt": prompt, "temperature": 0, "max_tokens": 12, "return_token_ids": True,
            **options}


# The JSON body; its gRPC twin is made from it by grpc_client.
REQUESTS = {
    "chat": chat(),
    "chat, defaults": {"messages": [QUESTION], "seed": 3, "max_tokens": 8},
    "chat, named model": chat(model=MODEL),
    "chat, many roles": {**chat(), "messages": [
        {"role": "developer", "content": FACT}, QUESTION,
        {"role": "assistant", "content": "It is"}, {"role": "user", "content": "What?"}]},
    "chat, continued": {**chat(continue_final_message=True, add_generation_prompt=False),
                        "messages": [{"role": "system", "content": FACT}, QUESTION,
                                     {"role": "assistant", "content": "The access"}]},
    "chat, no generation prompt": chat(add_generation_prompt=False),
    "chat, empty content": {**chat(), "messages": [{"role": "user", "content": ""}]},
    "chat, control tokens as text": chat("hi<|end|><|assistant|>"),
    "chat, sampling": chat(temperature=0.9, top_p=0.9, top_k=40, min_p=0.01, seed=11),
    "chat, hot": chat(temperature=2, seed=5, max_tokens=60),
    "chat, seed below zero": chat(temperature=1.2, seed=-7),
    "chat, penalties": chat(presence_penalty=1.5, frequency_penalty=-1.5, repetition_penalty=1.4,
                            ignore_eos=True, max_tokens=40),
    "chat, logprobs": chat(logprobs=True, top_logprobs=5),
    "chat, logprobs of the choice alone": chat(logprobs=True),
    "chat, logprobs of hot bytes": chat(WIDE, temperature=2, seed=1, logprobs=True,
                                        top_logprobs=20, ignore_eos=True, max_tokens=40),
    "chat, stop string": chat(stop="619"),
    "chat, four stop strings": chat(stop=["zzz", "of the Me", "code", "vault is"]),
    "chat, stop token ids": chat(stop_token_ids=list(range(300, 364)), max_tokens=40),
    "chat, n": chat(n=3, temperature=1.3, seed=5),
    "chat, bias": chat(logit_bias={"300": 100, "301": -100, "400": 0.5}, max_tokens=4),
    "chat, length": chat(max_tokens=2),
    "chat, ignore_eos": chat(ignore_eos=True, max_tokens=60),
    "chat, special tokens shown": chat(ignore_eos=True, skip_special_tokens=False, max_tokens=60),
    "chat, min_tokens": chat(min_tokens=30, max_tokens=60),
    "chat, no token ids": chat(return_token_ids=False),
    "chat, priority": chat(priority=-5, prompt_cache_key="one"),
    "chat, multi-byte": chat(WIDE * 5, temperature=1.5, seed=8),
    "chat, long": chat(LONG),
    "chat, long, moba": chat(LONG, attention={"mode": "moba"}),
    "chat, long, full": chat(LONG, attention={"mode": "full"}),
    "chat, long, few blocks": chat(LONG, attention={"mode": "moba", "top_k": 2}),
    "chat, long, auto": chat(LONG, attention={"mode": "auto", "top_k": 3}),
    "completion": completion(),
    "completion, defaults": {"prompt": "A cache", "seed": 1, "ignore_eos": True},
    "completion, texts": completion(["The quick", "A cache holds", WIDE], n=2, seed=4,
                                    temperature=1.1),
    "completion, token ids": completion([1, 300, 301, 302, 4095]),
    "completion, lists of ids": completion([[1, 400], [500, 501, 502]]),
    "completion, echo": completion(WIDE, echo=True),
    "completion, echo of ids": completion([1, 400, 401], echo=True),
    "completion, empty text": completion(""),
    "completion, logprobs": completion(logprobs=3),
    "completion, logprobs of the choice alone": completion(logprobs=0),
    "completion, long": completion(LONG, logprobs=1, attention={"mode": "moba", "top_k": 4}),
}


@pytest.fixture(scope="module")
def server(start_server):
    with start_server("--max-model-len", str(CONTEXT)) as started:
        yield started
        assert started.stop() == 0, "".join(started.log[-20:])


@pytest.mark.parametrize("name", REQUESTS)
def test_same_answer(server, grpc_client, name):
    """Each protocol first with a cold cache, then again with what it has cached."""
    def with_salt(salt):
        return {**REQUESTS[name], "cache_salt": salt}

    for _ in ("cold", "warm"):
        over_http = ask_http(server, with_salt("http"))
        assert_complete(over_http, REQUESTS[name])
        others = [ask_grpc(grpc_client, with_salt("grpc")),
                  ask_http_stream(server, with_salt("stream"))]
        if "stop" in REQUESTS[name]:  # the engine may be a token ahead when a stop string is seen
            for answer in (over_http, *others):
                del answer.usage["blocks_attended"], answer.usage["blocks_available"]
        assert others == [over_http, over_http]
    if "long" in name:
        assert over_http.usage["cached_tokens"] >= 1024, "the second time must be a hit"


def assert_complete(answer: Answer, body):
    """Guards the comparison: two answers that both lack something are equal, too."""
    prompts = body.get("prompt", "")
    num_prompts = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) \
        else 1
    assert sorted(answer.choices) == list(range(num_prompts * body.get("n", 1)))
    num_ids = sum(len(choice.token_ids) for choice in answer.choices.values())
    assert num_ids == (answer.usage["completion_tokens"] if body.get("return_token_ids") else 0)
    for choice in answer.choices.values():
        assert choice.reason in ("stop", "length")
        assert bool(choice.logprobs) == ("logprobs" in body)
    assert answer.usage["blocks_available"] >= answer.usage["blocks_attended"] > 0


def test_requests_differ(server):
    """Options of the table change the answer, so equal answers mean that both honour them."""
    def answer(name):
        return ask_http(server, REQUESTS[name])

    plain = answer("chat")
    for name in ("chat, penalties", "chat, stop string", "chat, bias", "chat, length",
                 "chat, ignore_eos", "chat, min_tokens", "chat, hot", "chat, stop token ids"):
        assert answer(name).choices[0].token_ids != plain.choices[0].token_ids, name
    # A model may answer the same without being prompted to; its prompt is shorter.
    unprompted = answer("chat, no generation prompt")
    assert unprompted.usage["prompt_tokens"] < plain.usage["prompt_tokens"]
    assert answer("chat, special tokens shown").choices != answer("chat, ignore_eos").choices
    attended = {name: answer(f"chat, long, {name}").usage["blocks_attended"]
                for name in ("moba", "full", "few blocks", "auto")}
    assert len(set(attended.values())) == 4, attended


TEXTS = ["plain words", "", " two  spaces \n", WIDE, "<s></s><|user|>", "\u0000\u0001", LONG]


@pytest.mark.parametrize("text", TEXTS, ids=["plain", "empty", "spaces", "multi-byte", "special",
                                             "control", "long"])
@pytest.mark.parametrize("options", [{}, {"add_special_tokens": False},
                                     {"add_special_tokens": True, "model": MODEL}])
def test_same_tokens(server, grpc_client, text, options):
    body = {"prompt": text, **options}
    over_http = server.post("/tokenize", json=body).json()
    over_grpc = grpc_client.encode(body)
    assert list(over_grpc.tokens) == over_http["tokens"]
    assert over_grpc.max_model_len == over_http["max_model_len"] == CONTEXT
    tokens = {"tokens": over_http["tokens"]}
    assert grpc_client.decode(tokens).text == server.post("/detokenize",
                                                          json=tokens).json()["prompt"]


def test_same_models(server, grpc_client):
    over_grpc = [{"id": model.id, "object": "model", "created": model.created,
                  "owned_by": model.owned_by, "max_model_len": model.max_model_len}
                 for model in grpc_client.list_models().models]
    assert over_grpc == server.get("/v1/models").json()["data"]
    assert [model["id"] for model in over_grpc] == [MODEL]


GRPC_CODES = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND}

class Refused(NamedTuple):
    body: dict
    param: str
    code: str | None = None
    status: int = 400


REFUSALS = {
    "unknown model": Refused(chat(model="gpt-none"), "model", "model_not_found", 404),
    "unknown model of a completion": Refused(completion(model="x"), "model", "model_not_found",
                                             404),
    "endless model": Refused(chat(model="m漢" * 20_000), "model", "model_not_found", 404),
    "odd model": Refused(chat(model="a\nb\u0000%"), "model", "model_not_found", 404),
    "no messages": Refused({**chat(), "messages": []}, "messages"),
    "unknown role": Refused({**chat(), "messages": [QUESTION, {"role": "emperor", "content": "x"}]},
                            "messages[1].role"),
    "empty role": Refused({**chat(), "messages": [{"role": "", "content": "x"}]},
                          "messages[0].role"),
    "role without a template": Refused({**chat(), "messages": [{"role": "tool", "content": "x"}]},
                                       "messages"),
    "continued and prompted": Refused(
        {**chat(), "messages": [{"role": "assistant", "content": "x"}],
         "add_generation_prompt": True, "continue_final_message": True}, "continue_final_message"),
    "continued user": Refused(chat(continue_final_message=True), "continue_final_message"),
    "prompt too long": Refused(chat(LONG * 4, max_tokens=8), "messages",
                               "context_length_exceeded"),
    "prompt too long for a completion": Refused(completion(LONG * 4), "prompt",
                                                "context_length_exceeded"),
    "prompt and answer too long": Refused(chat(max_tokens=CONTEXT), "messages",
                                          "context_length_exceeded"),
    "max_tokens 0": Refused(chat(max_tokens=0), "max_tokens"),
    "max_tokens -1": Refused(chat(max_tokens=-1), "max_tokens"),
    "max_tokens huge": Refused(chat(max_tokens=2 ** 62), "max_tokens"),
    "min_tokens -1": Refused(chat(min_tokens=-1), "min_tokens"),
    "min_tokens over max_tokens": Refused(chat(min_tokens=25), "min_tokens"),
    "n 0": Refused(chat(n=0), "n"),
    "n huge": Refused(chat(n=2 ** 62), "n"),
    "n over the cap": Refused(chat(n=129), "n"),
    "n times prompts over the cap": Refused(completion(["a"] * 65, n=2), "n"),
    "n overflows": Refused(completion(["a"] * 3, n=2 ** 62), "n"),
    "temperature -0.1": Refused(chat(temperature=-0.1), "temperature"),
    "temperature 2.1": Refused(chat(temperature=2.1), "temperature"),
    "top_p 0": Refused(chat(top_p=0), "top_p"),
    "top_p 1.1": Refused(chat(top_p=1.1), "top_p"),
    "top_k -2": Refused(chat(top_k=-2), "top_k"),
    "min_p 2": Refused(chat(min_p=2), "min_p"),
    "presence_penalty 3": Refused(chat(presence_penalty=3), "presence_penalty"),
    "frequency_penalty -3": Refused(chat(frequency_penalty=-3), "frequency_penalty"),
    "repetition_penalty 0": Refused(chat(repetition_penalty=0), "repetition_penalty"),
    "repetition_penalty 11": Refused(chat(repetition_penalty=11), "repetition_penalty"),
    "five stops": Refused(chat(stop=["a"] * 5), "stop"),
    "empty stop": Refused(chat(stop=[""]), "stop"),
    "endless stop": Refused(chat(stop="a" * 1025), "stop"),
    "stop token outside": Refused(chat(stop_token_ids=[4096]), "stop_token_ids"),
    "stop token below zero": Refused(chat(stop_token_ids=[-1]), "stop_token_ids"),
    "many stop tokens": Refused(chat(stop_token_ids=[5] * 65), "stop_token_ids"),
    "bias too large": Refused(chat(logit_bias={"5": 100.5}), "logit_bias"),
    "bias outside": Refused(chat(logit_bias={"4096": 1}), "logit_bias"),
    "bias below zero": Refused(chat(logit_bias={"-1": 1}), "logit_bias"),
    "top_logprobs 21": Refused(chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    "top_logprobs -1": Refused(chat(logprobs=True, top_logprobs=-1), "top_logprobs"),
    "attention mode": Refused(chat(attention={"mode": "sparse"}), "attention.mode"),
    "attention top_k 0": Refused(chat(attention={"top_k": 0}), "attention.top_k"),
    "attention top_k huge": Refused(chat(attention={"top_k": 2 ** 40}), "attention.top_k"),
    "priority": Refused(chat(priority=2 ** 40), "priority"),
    "no prompt": Refused(completion([]), "prompt"),
    "no token": Refused(completion([[1], []]), "prompt"),
    "token outside": Refused(completion([1, 4096]), "prompt"),
    "token below zero": Refused(completion([1, -1]), "prompt"),
    "echo with logprobs": Refused(completion(echo=True, logprobs=1), "echo"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_same_refusal(server, grpc_client, name):
    body, param, code, status = REFUSALS[name]
    route = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    over_http = server.post(route, json=body)
    assert over_http.status_code == status, over_http.text
    error = over_http.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    refused = grpc_refusal(lambda: list(grpc_client.generate(body)))
    assert refused.code == GRPC_CODES[status], refused
    assert (refused.param, refused.error_code) == (param, code), refused
    assert refused.message == error["message"]
    assert refused.retry_after is None
    server.wait_until_idle()


@pytest.mark.parametrize("body, param, code, status", [
    ({"tokens": [4096]}, "tokens", None, 400), ({"tokens": [-1]}, "tokens", None, 400),
    ({"tokens": [2 ** 40]}, "tokens", None, 400),
    ({"tokens": [1], "model": "x"}, "model", "model_not_found", 404),
    ({"prompt": "a", "model": "x"}, "model", "model_not_found", 404)])
def test_same_refusal_of_the_tokenizer(server, grpc_client, body, param, code, status):
    is_decode = "tokens" in body
    over_http = server.post("/detokenize" if is_decode else "/tokenize", json=body)
    assert over_http.status_code == status
    error = over_http.json()["error"]
    call = grpc_client.decode if is_decode else grpc_client.encode
    refused = grpc_refusal(lambda: call(body))
    assert refused.code == GRPC_CODES[status]
    assert (refused.param, refused.error_code) == (error["param"], error["code"]) == (param, code)
    assert refused.message == error["message"]
