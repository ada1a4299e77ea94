"""MoBA on weights that were not trained for it: full attention, unless somebody asks."""

import json

import pytest

from conftest import MODEL_DIR, numbered_text
from grpc_client import ask_grpc, ask_http
from test_lifecycle import assert_refuses_to_start, run

LONG = numbered_text(900, seed=1)
SIZES = ("--moba-block-size", "64", "--moba-top-k", "4", "--moba-decode-top-k", "64")
BODY = {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": "Which?"}],
        "temperature": 0, "max_tokens": 8, "ignore_eos": True, "return_token_ids": True}
FULL, MOBA = {"mode": "full"}, {"mode": "moba"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled model, whose config.json says nothing of MoBA."""
    folder = tmp_path_factory.mktemp("untrained")
    for name in ("model.safetensors", "tokenizer.model", "tokenizer_config.json"):
        (folder / name).symlink_to(MODEL_DIR / name)
    config = json.loads((MODEL_DIR / "config.json").read_text())
    del config["moba"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def start(start_server, folder):
    def started(*flags, model=folder):
        return start_server("--served-model-name", "m", "--no-prefix-cache", *flags, model=model)
    return started


@pytest.fixture(scope="module")
def trained(start):
    with start(model=MODEL_DIR) as server:
        yield server


def banner(server):
    return next(line for line in server.log if line.startswith("  attention"))


def blocks(answer):
    return answer.usage["blocks_attended"], answer.usage["blocks_available"]


def asking(attention):
    return {**BODY, "attention": attention}


def test_unasked_everything_is_attended(start, trained, connect_grpc):
    with start() as server:
        line = banner(server)
        assert line.startswith("  attention  prefill full, decode full; moba: blocks of 64 tokens")
        assert line.endswith("the weights were not trained for MoBA: requests that ask for it are "
                             "approximated\n")
        expected = ask_http(trained, asking(FULL))
        attended, available = blocks(expected)
        assert attended == available
        for body in (BODY, asking({"mode": "auto"}), asking({"top_k": 2}), asking(FULL)):
            assert ask_http(server, body) == expected
            assert ask_grpc(connect_grpc(server), body) == expected


def test_a_request_may_ask_for_blocks(start, trained, connect_grpc):
    with start(*SIZES) as server:
        assert "prefill full, decode full; moba: blocks of 64 tokens, top 4 (64" in banner(server)
        expected = ask_http(trained, asking(MOBA))
        attended, available = blocks(expected)
        assert attended < available
        few = ask_http(trained, asking({**MOBA, "top_k": 2}))
        assert blocks(few)[0] < attended
        for ask, target in ((ask_http, server), (ask_grpc, connect_grpc(server))):
            assert ask(target, asking(MOBA)) == expected
            assert ask(target, asking({**MOBA, "top_k": 2})) == few
            assert blocks(ask(target, BODY))[0] == available


def test_a_server_may_choose_blocks(start, trained):
    with start("--attention", "moba", *SIZES) as server:
        line = banner(server)
        assert "prefill moba, decode moba; moba: blocks of 64 tokens, top 4 (64 in decode)" in line
        assert line.endswith("the weights were not trained for MoBA: by the settings' choice, "
                             "answers are approximated\n")
        assert ask_http(server, BODY) == ask_http(trained, BODY)
        assert ask_http(server, asking(FULL)) == ask_http(trained, asking(FULL))


def test_blocks_have_the_size_that_was_asked_for(start):
    with start("--attention", "moba", "--moba-block-size", "16", "--moba-top-k", "3") as server:
        assert "blocks of 16 tokens, top 3;" in banner(server)
        answer = ask_http(server, {**BODY, "max_tokens": 1})
        num_tokens = answer.usage["prompt_tokens"]
        layers = json.loads((MODEL_DIR / "config.json").read_text())["num_hidden_layers"]
        per_token = [position // 16 + 1 for position in range(num_tokens)]
        assert blocks(answer) == (layers * sum(min(count, 3) for count in per_token),
                                  layers * sum(per_token))


def test_the_last_layers_may_stay_full(start, folder, tmp_path):
    settings = tmp_path / "quire.toml"
    settings.write_text('attention = "moba"\nmoba-full-layers = "last:2"\nmoba-top-k = 2\n')
    with start("--config", str(settings)) as server:
        assert "; full attention in layers 2-3 of 4;" in banner(server)
        mixed, available = blocks(ask_http(server, BODY))
    with start("--config", str(settings), "--moba-full-layers", "0,last:3") as server:
        assert "; full attention in layers 0-3 of 4;" in banner(server)
        assert blocks(ask_http(server, BODY)) == (available, available)
    with start("--attention", "moba", "--moba-top-k", "2") as server:
        assert "full attention in layers" not in banner(server)
        sparse, _ = blocks(ask_http(server, BODY))
    assert sparse < mixed and mixed - sparse == (available - sparse) // 2, "two layers of four"
    assert_refuses_to_start("--model", str(folder), "--moba-full-layers", "last:5",
                            mentions="--moba-full-layers: last:5, and the model has 4 layers")
    assert_refuses_to_start("--moba-full-layers", "first:1", mentions="first:1")


def test_trained_weights_say_nothing_of_it():
    done = run("--model", str(MODEL_DIR), "--check-config", "--kv-cache-memory", "64MiB")
    assert "prefill moba, decode moba" in done.stdout
    assert "not trained" not in done.stdout
