"""--accept-any-model: tools that cannot be told the model's name are answered all the same."""

import httpx
import openai
import pytest

from conftest import MODEL
from grpc_client import ask_grpc, ask_http, ask_http_stream, grpc_refusal

NAMES = ["gpt-4o", "", MODEL.upper(), f"org/{MODEL}", "naïve 漢字\n%41", "m" * 20_000]
CHAT = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 4}
COMPLETION = {"prompt": "The", "temperature": 0, "max_tokens": 4}


@pytest.fixture(scope="module")
def server(start_server):
    with start_server("--accept-any-model", "--max-model-len", "512") as started:
        yield started


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_answered_under_the_own_name(server, grpc_client, name):
    for body in (CHAT, COMPLETION):
        own = ask_http(server, {**body, "model": MODEL})
        asked = {**body, "model": name}
        for answer in (ask_http(server, asked), ask_http_stream(server, asked),
                       ask_grpc(grpc_client, asked)):
            assert answer.model == MODEL
            assert answer.choices == own.choices


def test_the_tokenizer_and_the_routes_of_models(server, grpc_client):
    body = {"prompt": "some text", "model": "gpt-4o"}
    told = server.post("/tokenize", json=body)
    assert told.status_code == 200
    tokens = told.json()["tokens"]
    assert list(grpc_client.encode(body).tokens) == tokens
    text = server.post("/detokenize", json={"tokens": tokens, "model": "x"}).json()["prompt"]
    assert grpc_client.decode({"tokens": tokens, "model": "x"}).text == text
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == [MODEL]
    assert [model.id for model in grpc_client.list_models().models] == [MODEL]
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0)
    assert client.models.retrieve("gpt-4o").id == MODEL
    assert client.models.retrieve(MODEL).id == MODEL


def test_what_is_wrong_besides_the_name_is_refused(server, grpc_client):
    body = {**CHAT, "model": "gpt-4o", "temperature": 9}
    refused = server.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
    assert grpc_refusal(lambda: list(grpc_client.generate(body))).param == "temperature"
    no_text = {"model": 4, "messages": CHAT["messages"]}
    assert server.post("/v1/chat/completions", json=no_text).json()["error"]["param"] == "model"


def test_it_is_off_unless_asked_for(start_server, tmp_path):
    settings = tmp_path / "quire.toml"
    settings.write_text("accept-any-model = false\n")
    with start_server("--config", str(settings)) as strict:
        refused = httpx.post(strict.url + "/v1/chat/completions", json={**CHAT, "model": "gpt-4o"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert strict.get("/v1/models/gpt-4o").status_code == 404
