"""tests/eval/needle.py against a running server: what it asks, keeps, resumes and draws."""

import json
import os
import pathlib
import random
import re
import subprocess
import sys
import types
import xml.etree.ElementTree

SOURCE_DIR = pathlib.Path(os.environ["QUIRE_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE_DIR / "tests/eval"))
import needle  # noqa: E402


def run_needle(server, out, *flags):
    filler = SOURCE_DIR / "models" / "README.md"
    return subprocess.run(
        [sys.executable, SOURCE_DIR / "tests/eval/needle.py", "--base-url", server.url + "/v1",
         "--contexts", "1024,2048", "--depths", "2", "--questions", "3", "--facts", "6",
         "--filler", str(filler), "--out", str(out), *flags],
        capture_output=True, text=True, timeout=600, check=False)


def records_of(out):
    first, *rest = (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(first), [json.loads(line) for line in rest]


def test_every_question_is_asked_once_and_the_rest_after_a_stop(server, tmp_path):
    done = run_needle(server, tmp_path)
    assert done.returncode == 0, done.stderr
    settings, records = records_of(tmp_path)
    kinds = [record["kind"] for record in records]
    assert kinds.count("single") == 2 * 6 and kinds.count("absent") == 2 * 3
    assert settings["model"] == server.openai().models.list().data[0].id
    for record in records:
        assert record["prompt_tokens"] <= record["tokens"]
        whole_word = re.search(rf"(?<!\w){re.escape(record['value'])}(?!\w)", record["answer"])
        assert record["right"] == bool(whole_word)
    later = [record for record in records if record["index"] > 0]
    assert all(record["cached_tokens"] > 0 for record in later)

    # Stopped in the middle of the second length, the same questions are asked again, no others.
    lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "answers.jsonl").write_text("".join(lines[:-4]), encoding="utf-8")
    assert run_needle(server, tmp_path).returncode == 0
    again = records_of(tmp_path)[1]
    asked = [(record["question"], record["value"], record["answer"]) for record in records]
    assert [(r["question"], r["value"], r["answer"]) for r in again] == asked

    picture = xml.etree.ElementTree.parse(tmp_path / "heatmap.svg")
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1K", "2K", "0–50%", "50–100%"} <= set(texts)
    assert sum(bool(re.fullmatch(r"\d+\.\d%", text)) for text in texts) == 4


def test_answers_of_other_settings_are_not_mixed(server, tmp_path):
    assert run_needle(server, tmp_path).returncode == 0
    done = run_needle(server, tmp_path, "--seed", "2")
    assert done.returncode != 0
    assert "other settings: seed" in done.stderr


def test_facts_have_only_attributes_that_training_never_saw_where_that_is_asked_for(
        server, tmp_path):
    new = re.compile("case number|closing date|call sign|inventory number|tax number")
    for attributes in ("new", "all"):
        done = run_needle(server, tmp_path / attributes, "--attributes", attributes)
        assert done.returncode == 0, done.stderr
        settings, records = records_of(tmp_path / attributes)
        assert settings["attributes"] == attributes
        asked = [record["question"] for record in records if record["kind"] == "single"]
        assert all(map(new.search, asked)) == (attributes == "new")


def test_a_document_that_is_counted_in_parts_fits_into_its_length(server, monkeypatch):
    monkeypatch.setattr(needle, "LONG_TOKENS", 1024)
    monkeypatch.setattr(needle, "PART_CHARACTERS", 4000)
    to = needle.Server(server.url + "/v1")
    rng = random.Random(5)
    filler = "The documentation describes it. " * 200 + "7 93 5 81 6. " * 500  # unlike its sample
    for _ in range(5):
        text, places = needle.document_of(to, rng, filler, ["The code of Wem is 61."] * 3, 2048)
        tokens = to.ask(text, "?")[1].prompt_tokens
        assert 0.9 * 2048 < tokens + needle.RESERVE_TOKENS <= 2048
        assert len(places) == text.count("The code of Wem is 61.") == 3


def test_a_refusal_is_told_and_what_was_answered_is_kept(start_server, tmp_path):
    with start_server("--max-model-len", "1536") as small:
        done = run_needle(small, tmp_path)
    assert done.returncode == 1
    assert "maximum context length is 1536 tokens" in done.stderr
    assert "Traceback" not in done.stderr
    assert {record["tokens"] for record in records_of(tmp_path)[1]} == {1024}


def test_a_server_that_is_not_there_is_told_in_a_line(tmp_path):
    done = run_needle(types.SimpleNamespace(url="http://127.0.0.1:1"), tmp_path)
    assert done.returncode == 1
    assert "Connection error" in done.stderr and "Traceback" not in done.stderr
