"""The bundled model as a GGUF file: another spelling, the same server."""

import pytest

from conftest import MODEL_DIR, Server, numbered_text
from gguf_writer import write_gguf

FACT = "The access code of the Meage vault is 619."
QUESTION = {"role": "user", "content": "What is the access code of the Meage vault?"}
LONG = numbered_text(900, seed=1) + f"\n{FACT}\n" + numbered_text(900, seed=2)
REQUESTS = {
    "chat": {"messages": [{"role": "system", "content": LONG}, QUESTION], "max_tokens": 24},
    "sampled": {"messages": [QUESTION], "temperature": 1.1, "seed": 3, "max_tokens": 24},
    "hard text": {"messages": [{"role": "user", "content": "naïve ﬁ  漢字 🙂\n\t— ¿qué? <|end|>"}],
                  "max_tokens": 24},
}


@pytest.fixture(scope="module")
def start(start_server):
    def started(model):
        return start_server("--served-model-name", "m", model=model)
    return started


def answers(server, logprobs):
    result = {}
    for name, request in REQUESTS.items():
        response = server.post("/v1/chat/completions", json={
            "temperature": 0, **request, "return_token_ids": True, "logprobs": logprobs})
        assert response.status_code == 200, response.text
        body = response.json()
        choice = body["choices"][0]
        result[name] = (body["usage"]["prompt_tokens"], choice["message"]["content"],
                        choice["token_ids"], choice["logprobs"])
    return result


@pytest.fixture(scope="module")
def folder_answers(start):
    with start(MODEL_DIR) as server:
        yield {logprobs: answers(server, logprobs) for logprobs in (False, True)}


def test_bf16_file_gives_the_folders_answers_to_the_last_bit(start, folder_answers, tmp_path):
    with start(write_gguf(MODEL_DIR, tmp_path / "quire.gguf", "BF16")) as server:
        assert answers(server, logprobs=True) == folder_answers[True]


def test_folder_with_one_f16_file_gives_the_folders_answer(start, folder_answers, tmp_path):
    write_gguf(MODEL_DIR, tmp_path / "model.gguf", "F16")  # rounds the smallest weights
    with start(tmp_path) as server:
        rounded = answers(server, logprobs=False)
    assert rounded["chat"] == folder_answers[False]["chat"]
    for name, (prompt_tokens, *_) in folder_answers[False].items():
        assert rounded[name][0] == prompt_tokens


def test_damaged_file_is_one_line_and_exit_code_2(tmp_path):
    path = write_gguf(MODEL_DIR, tmp_path / "quire.gguf", "BF16")
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(RuntimeError, match="did not start") as failure:
        Server(model=path)
    assert "data bytes" in str(failure.value) and str(path) in str(failure.value)
