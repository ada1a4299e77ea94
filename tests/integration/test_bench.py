"""quire-bench against a running server, and what it says when there is none."""

import json
import os
import subprocess

BENCH = os.environ["QUIRE_BENCH_TOOL"]


def run_bench(*flags):
    return subprocess.run([BENCH, *flags], capture_output=True, text=True, timeout=600, check=False)


def test_serve_counts_what_the_server_counted(server):
    done = run_bench("serve", "--port", str(server.port), "--streams", "1,4", "--requests", "2",
                     "--prompt-words", "20", "--max-tokens", "12", "--output", "json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [r["streams"] for r in results] == [1, 4]
    for result in results:
        assert result["failed"] == 0, result["failure"]
        assert result["requests"] == 2 * result["streams"]
        assert result["completion_tokens"] == 12 * result["requests"]
        assert 0 < result["first_token_seconds"]["p50"] <= result["wall_seconds"]
        assert result["inter_token_seconds"]["p50"] <= result["inter_token_seconds"]["p99"]


def test_streams_are_measured_while_a_long_prompt_is_read(server):
    done = run_bench("serve", "--port", str(server.port), "--streams", "2", "--prompt-words", "4",
                     "--max-tokens", "8", "--background-prefill", "2048", "--output", "json")
    assert done.returncode == 0, done.stderr
    result, = json.loads(done.stdout)["results"]
    assert result["failed"] == 0, result["failure"]
    assert result["requests"] >= 2
    assert 0 < result["background_seconds"] <= result["wall_seconds"]
    assert result["first_token_seconds"]["max"] <= result["wall_seconds"]


def test_a_refusing_server_is_told_by_its_words(server):
    done = run_bench("serve", "--port", str(server.port), "--model", "no-such-model")
    assert done.returncode == 2
    assert "404" in done.stderr


def test_nobody_listens():
    done = run_bench("serve", "--port", "1")
    assert done.returncode == 2
    assert "connect" in done.stderr
