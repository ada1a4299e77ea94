"""generation_config.json: what requests get that do not say, over HTTP and gRPC."""

import json

import pytest

from conftest import MODEL_DIR
from grpc_client import ask_grpc, ask_http, ask_http_stream
from test_lifecycle import assert_refuses_to_start, run

# Each of these changes what is drawn for DRAWN below; test_every_default_counts looks.
WANTED = {"temperature": 1.6, "top_p": 0.93, "top_k": 30, "min_p": 0.1,
          "repetition_penalty": 1.35}
MAX_NEW_TOKENS = 37
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
CONTEXT = 256
DRAWN = {"prompt": ["The", "A cache holds"], "n": 4, "seed": 7, "ignore_eos": True,
         "return_token_ids": True}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "seed": 7, "ignore_eos": True,
        "return_token_ids": True}


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory):
    """The bundled model with a generation_config.json."""
    def make(config):
        folder = tmp_path_factory.mktemp("model")
        for name in ("config.json", "model.safetensors", "tokenizer.model",
                     "tokenizer_config.json"):
            (folder / name).symlink_to(MODEL_DIR / name)
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "generation_config.json").write_text(text)
        return folder
    return make


@pytest.fixture(scope="module")
def folder(make_folder):
    return make_folder({"do_sample": True, "eos_token_id": 2, "max_new_tokens": MAX_NEW_TOKENS,
                        **WANTED})


@pytest.fixture(scope="module")
def choosy(start_server, folder):
    with start_server("--max-model-len", str(CONTEXT), "--served-model-name", "m",
                      model=folder) as started:
        yield started


@pytest.fixture(scope="module")
def server(start_server):
    """The bundled model, which has no such file."""
    with start_server("--max-model-len", str(CONTEXT), "--served-model-name", "m") as started:
        yield started


def tokens(server, body, ask=ask_http):
    answer = ask(server, body)
    return [answer.choices[i].token_ids for i in sorted(answer.choices)]


def test_requests_that_say_nothing_are_drawn_as_the_model_wants(choosy, server, connect_grpc):
    said = {**WANTED, "max_tokens": MAX_NEW_TOKENS}
    grpc = connect_grpc(choosy)
    for body in (DRAWN, CHAT):
        expected = tokens(server, {**body, **said})
        assert {len(ids) for ids in expected} == {MAX_NEW_TOKENS}
        assert tokens(choosy, body) == expected
        assert tokens(choosy, body, ask_http_stream) == expected
        assert tokens(grpc, body, ask_grpc) == expected
        null = {name: None for name in said}
        assert tokens(choosy, {**body, **null}) == expected, "null is not said"


def test_requests_that_say_something_win(choosy, server, connect_grpc):
    said = {**DRAWN, **NEUTRAL, "max_tokens": 20}
    expected = tokens(server, {**DRAWN, "max_tokens": 20})
    assert tokens(server, said) == expected
    assert tokens(choosy, said) == expected
    assert tokens(connect_grpc(choosy), said, ask_grpc) == expected


@pytest.mark.parametrize("name", WANTED)
def test_every_default_counts_and_can_be_said_otherwise(choosy, server, connect_grpc, name):
    without = {**WANTED, name: NEUTRAL[name], "max_tokens": MAX_NEW_TOKENS}
    expected = tokens(server, {**DRAWN, **without})
    assert expected != tokens(choosy, DRAWN)
    otherwise = {**DRAWN, name: NEUTRAL[name]}
    assert tokens(choosy, otherwise) == expected
    assert tokens(connect_grpc(choosy), otherwise, ask_grpc) == expected


def test_a_default_length_bends_to_the_context_and_to_min_tokens(choosy):
    def num_tokens(prompt_tokens, **fields):
        body = {"prompt": [300] * prompt_tokens, "ignore_eos": True, **fields}
        return ask_http(choosy, body).usage["completion_tokens"]

    assert num_tokens(CONTEXT - MAX_NEW_TOKENS) == MAX_NEW_TOKENS
    assert num_tokens(CONTEXT - MAX_NEW_TOKENS + 1) == MAX_NEW_TOKENS - 1
    assert num_tokens(CONTEXT - 1) == 1
    assert num_tokens(10, min_tokens=60) == 60
    full = choosy.post("/v1/completions", json={"prompt": [300] * CONTEXT})
    assert full.json()["error"]["code"] == "context_length_exceeded"
    asked = {"prompt": [300] * (CONTEXT - 10), "max_tokens": MAX_NEW_TOKENS}
    refused = choosy.post("/v1/completions", json=asked)
    assert refused.json()["error"]["code"] == "context_length_exceeded", "that was asked for"


def test_without_the_file_nothing_has_changed(server):
    assert tokens(server, {**DRAWN, "n": 1}) == tokens(
        server, {**DRAWN, **NEUTRAL, "n": 1, "max_tokens": 16})
    used = ask_http(server, {**CHAT, "temperature": 0}).usage
    assert used["prompt_tokens"] + used["completion_tokens"] == CONTEXT


def test_a_model_that_is_not_sampled_is_greedy(make_folder, start_server, server, connect_grpc):
    chosen = {"do_sample": False, "temperature": 0.9}
    with start_server(model=make_folder(chosen)) as greedy:
        body = {**DRAWN, "max_tokens": 24}
        expected = tokens(server, {**body, "temperature": 0})
        assert expected != tokens(server, body)
        assert tokens(greedy, body) == expected
        assert tokens(connect_grpc(greedy), body, ask_grpc) == expected
        assert tokens(greedy, {**body, "temperature": 1}) == tokens(server, body)


def test_the_file_may_be_left_out(start_server, folder, server, tmp_path):
    settings = tmp_path / "quire.toml"
    settings.write_text('generation-config = "none"\n')
    with start_server("--config", str(settings), "--max-model-len", str(CONTEXT),
                      model=folder) as plain:
        assert tokens(plain, DRAWN) == tokens(server, DRAWN)
        text = "".join(plain.log)
        assert "temperature 1, top_p 1 where a request does not say\n" in text
        # Where an answer ends is no matter of taste: the file's end token counts.
        ends = {"prompt": "The", "logit_bias": {"2": 100}, "max_tokens": 8, "temperature": 0}
        assert ask_http(plain, ends).usage["completion_tokens"] == 1
        assert ask_http(server, ends).usage["completion_tokens"] == 8


def test_the_start_says_what_holds(make_folder, folder):
    def told(model, *flags):
        done = run("--model", str(model), "--check-config", "--kv-cache-memory", "64MiB", *flags)
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stdout.splitlines() if line.startswith("  sampling"))

    assert told(MODEL_DIR).endswith("temperature 1, top_p 1 where a request does not say")
    assert ("temperature 1.6, top_p 0.93, top_k 30, min_p 0.1, repetition_penalty 1.35, "
            "max_tokens 37 where a request does not say (generation_config.json)") in told(folder)
    beams = make_folder({"num_beams": 4, "typical_p": 0.9, "temperature": 0.5})
    assert told(beams).endswith("not honoured there: num_beams, typical_p")


@pytest.mark.parametrize("config, mentions", [
    ({"temperature": 3}, "generation_config.json: 'temperature': expected a number in [0, 2], got 3"),
    ({"top_p": 0}, "generation_config.json: 'top_p': expected a number greater than 0, got 0"),
    ({"top_k": "many"}, "generation_config.json: 'top_k': expected an integer"),
    ({"max_new_tokens": -1}, "generation_config.json: 'max_new_tokens': expected an integer"),
    ({"do_sample": "no"}, "generation_config.json: 'do_sample': expected true or false"),
    ("[1]", "generation_config.json: expected a JSON object"),
    ("{", "generation_config.json: ")])
def test_a_bad_file_is_one_line_at_start(make_folder, config, mentions):
    assert_refuses_to_start("--model", str(make_folder(config)), "--port", "0", mentions=mentions)


def test_bad_numbers_do_not_matter_to_who_leaves_them_out(make_folder):
    folder = make_folder({"temperature": 3})
    done = run("--model", str(folder), "--generation-config", "none", "--check-config",
               "--kv-cache-memory", "64MiB")
    assert (done.returncode, done.stderr) == (0, "")
