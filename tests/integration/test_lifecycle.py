"""Start, configuration, health, keys, drain, and model folders that lie."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

from conftest import MODEL, MODEL_DIR, SERVER

CHAT = "/v1/chat/completions"
OK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def run(*args, **kwargs):
    return subprocess.run([SERVER, *args], capture_output=True, text=True, timeout=60, check=False,
                          **kwargs)


def assert_refuses_to_start(*args, mentions, **kwargs):
    done = run(*args, **kwargs)
    assert done.returncode == 2, done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert mentions in lines[0], lines[0]


def test_help_version_and_check_config():
    assert run("--version").returncode == 0
    assert "--model" in run("--help").stdout
    assert run("--check-config", "--model", str(MODEL_DIR)).returncode == 0


def test_bad_settings_are_one_line_and_exit_code_two(tmp_path):
    assert_refuses_to_start("--no-such-flag", mentions="no-such-flag")
    assert_refuses_to_start("--port", "70000", mentions="port")
    assert_refuses_to_start("--max-num-seqs", "0", mentions="max-num-seqs")
    assert_refuses_to_start("--backend", "abacus", mentions="abacus")
    assert_refuses_to_start("--backend", "cuda:0", "--port", "0", "--grpc-port", "0",
                            mentions="cuda")
    assert_refuses_to_start("--backend", "cpu", "--weights", "fp8", "--port", "0", "--grpc-port",
                            "0", mentions="no products of FP8")
    for flag in ("--weights", "--kv-dtype"):
        assert_refuses_to_start("--backend", "cpu", flag, "f32", "--port", "0", "--grpc-port", "0",
                                mentions=f"{flag}: f32 is for --backend reference, not cpu")
    assert_refuses_to_start("--model", str(tmp_path / "none"), mentions="none")
    assert_refuses_to_start("--moba-digest", "max", mentions="moba-digest")
    assert_refuses_to_start("--moba-digest", "bounds", "--moba-schedule", "4096:4",
                            mentions="moba.digest bounds")
    config = tmp_path / "quire.toml"
    config.write_text("prot = 8000\n")
    assert_refuses_to_start("--config", str(config), mentions="prot")


def test_flags_beat_environment_beats_file(tmp_path, start_server):
    config = tmp_path / "quire.toml"
    config.write_text('served-model-name = "from-file"\nmax-model-len = 2048\n')
    with start_server("--config", str(config), "--max-model-len", "1024",
                      env={"QUIRE_SERVED_MODEL_NAME": "from-environment"}) as server:
        model = server.get("/v1/models").json()["data"][0]
        assert model["id"] == "from-environment" and model["max_model_len"] == 1024


@pytest.mark.parametrize("digest", ["bounds", "cuboid-mean"])
def test_a_digest_is_named_at_start_and_answers_the_same_cached_and_not(
        digest, start_server, make_text):
    prompt = {"prompt": make_text(1500), "max_tokens": 12, "temperature": 0,
              "logprobs": 1, "seed": 1}
    with start_server("--moba-digest", digest, "--moba-top-k", "2") as server:
        assert f"digest {digest}" in "".join(server.log)
        first, second = (server.post("/v1/completions", json=prompt).json() for _ in range(2))
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 1000
        assert first["choices"] == second["choices"]
        attended = first["usage"]["attention"]
        assert attended["blocks_attended"] < attended["blocks_available"]


def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refuses_to_start("--model", str(MODEL_DIR), "--port", port, "--grpc-port", "0",
                                mentions=port)


def copy_model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    return folder


def rewrite_header(path, change):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])


def test_truncated_weights(tmp_path):
    weights = copy_model(tmp_path) / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert_refuses_to_start("--model", str(weights.parent), "--port", "0", mentions="safetensors")


@pytest.mark.parametrize("lie", ["offset", "shape", "dtype", "missing", "header"])
def test_lying_weights(tmp_path, lie):
    weights = copy_model(tmp_path) / "model.safetensors"
    name = told = "model.layers.1.mlp.down_proj.weight"

    def change(header):
        if lie == "offset":
            header[name]["data_offsets"] = [2 ** 63, 2 ** 63 + 8]
        elif lie == "shape":
            header[name]["shape"] = [2 ** 40, 2 ** 40]
        elif lie == "dtype":
            header[name]["dtype"] = "F64"
        elif lie == "missing":
            del header[name]
            nonlocal told
            told = "belong to no tensor"

    if lie == "header":
        weights.write_bytes(struct.pack("<Q", 2 ** 62) + weights.read_bytes()[8:])
        told = "safetensors"
    else:
        rewrite_header(weights, change)
    assert_refuses_to_start("--model", str(weights.parent), "--port", "0", mentions=told)


def test_tokenizer_of_another_model(tmp_path):
    folder = copy_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 32000}))
    # Before the weights, whose embedding has other rows than config.json says, too.
    assert_refuses_to_start("--model", str(folder), "--port", "0", mentions="got one of 4096 tokens")
    (folder / "config.json").write_text(
        json.dumps({**config, "vocab_size": 5000, "eos_token_id": 4999}))
    assert_refuses_to_start("--model", str(folder), "--port", "0",
                            mentions="config.json: 'eos_token_id': expected a token of")


def test_health_routes_and_banner(server):
    assert server.get("/livez").status_code == 200
    assert server.get("/readyz").status_code == 200
    assert server.get("/health").status_code == 200
    assert server.get("/version").json()["version"]
    text = "".join(server.log)
    for fact in ("http://127.0.0.1", MODEL, "context", "KV", "moba", "cpu"):
        assert fact.lower() in text.lower(), text


def test_metrics_have_our_names_and_the_pickers(server):
    server.post(CHAT, json=OK)
    text = server.get("/metrics").text
    for name in ("quire_sequences_running", "quire_generation_tokens_total",
                 "quire_time_to_first_token_seconds_bucket", "vllm:num_requests_waiting",
                 "vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
        assert name in text
    assert server.metric("quire_generation_tokens_total") >= 1


def test_keys_guard_every_route_but_two(start_server, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-from-file\n")
    with start_server("--api-key", "sk-one", "--api-key-file", str(keys)) as server:
        for path in ("/v1/models", "/health", "/version", "/metrics"):
            refused = server.get(path)
            assert refused.status_code == 401, path
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert server.post(CHAT, json=OK).status_code == 401
        assert server.post(CHAT, json=OK,
                           headers={"authorization": "Bearer sk-onf"}).status_code == 401
        for key in ("sk-one", "sk-from-file"):
            assert server.post(CHAT, json=OK,
                               headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert server.get("/livez").status_code == server.get("/readyz").status_code == 200


def test_prompt_text_and_keys_never_reach_the_log(start_server):
    with start_server("--api-key", "sk-hidden", "--log-level", "debug") as server:
        server.post(CHAT, headers={"authorization": "Bearer sk-hidden"},
                    json={**OK, "messages": [{"role": "user", "content": "xyzzy-secret"}]})
        assert server.stop() == 0
        text = "".join(server.log)
        assert "xyzzy" not in text and "sk-hidden" not in text
        assert "finish" in text, "one line per finished request"


def test_sigterm_finishes_what_runs_and_refuses_the_rest(start_server, make_text):
    with start_server("--backend", "reference", "--max-step-tokens", "64",
                      "--drain-timeout", "600") as server:
        answers = []
        body = {"messages": [{"role": "user", "content": make_text(1500)}], "max_tokens": 8,
                "temperature": 0, "ignore_eos": True}
        running = threading.Thread(target=lambda: answers.append(server.post(CHAT, json=body)))
        running.start()
        server.wait_for(lambda: server.metric("quire_sequences_running") == 1)
        server.process.send_signal(signal.SIGTERM)
        running.join()
        assert answers[0].status_code == 200
        assert answers[0].json()["usage"]["completion_tokens"] == 8
        assert server.stop() == 0
