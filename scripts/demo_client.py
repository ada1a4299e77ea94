#!/usr/bin/env python3
"""Asks a running Quire about a long document through HTTP and shows answers and timings.

Standard library only. scripts/demo.sh starts the server and calls this.
"""

import argparse
import dataclasses
import http.client
import json
import pathlib
import sys
import time
import urllib.parse

import demo_facts

QUESTION_RESERVE_TOKENS = 256  # room for the question, the answer and the template


@dataclasses.dataclass
class Answer:
    text: str = ""
    usage: dict = dataclasses.field(default_factory=dict)
    first_token_s: float = 0.0
    last_token_s: float = 0.0

    @property
    def cached_tokens(self):
        return self.usage["prompt_tokens_details"]["cached_tokens"]

    @property
    def prefill_tokens_per_s(self):
        return (self.usage["prompt_tokens"] - self.cached_tokens) / self.first_token_s

    @property
    def decode_tokens_per_s(self):
        steps = self.usage["completion_tokens"] - 1
        span = self.last_token_s - self.first_token_s
        return steps / span if steps > 0 and span > 0 else float("nan")


class Client:
    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=3600)
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {response.status} {response.read().decode()}")
        return response

    def get(self, path):
        return json.load(self.request("GET", path))

    def count_tokens(self, text):
        return json.load(self.request("POST", "/tokenize", {"prompt": text}))["count"]

    def ask(self, document, question, on_progress):
        """Streams a chat completion; calls on_progress(processed, total) during prefill."""
        answer, start = Answer(), time.monotonic()
        response = self.request("POST", "/v1/chat/completions", {
            "messages": [{"role": "system", "content": document},
                         {"role": "user", "content": question}],
            "temperature": 0, "max_tokens": 48, "stream": True,
            "stream_options": {"include_usage": True}, "return_progress": True})
        for line in response:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            chunk = json.loads(line[len(b"data: "):])
            if "error" in chunk:
                raise SystemExit(f"the stream failed: {chunk['error']['message']}")
            progress = chunk.get("prompt_progress")
            if progress:
                on_progress(progress["processed"], progress["total"])
            for choice in chunk["choices"]:
                now = time.monotonic() - start
                answer.first_token_s = answer.first_token_s or now
                if choice["delta"].get("content"):
                    answer.last_token_s = now
                    answer.text += choice["delta"]["content"]
            if chunk.get("usage"):
                answer.usage = chunk["usage"]
        return answer


class ProgressLine:
    """A bar on a terminal, a line for every tenth elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.next_tenth = 0

    def __call__(self, processed, total):
        if self.live:
            filled = 40 * processed // max(total, 1)
            print(f"\r  reading  [{'#' * filled}{'.' * (40 - filled)}] {processed:,}/{total:,}",
                  end="\n" if processed == total else "", flush=True)
        elif processed * 10 >= self.next_tenth * total:
            print(f"  reading  {processed:,} of {total:,} tokens", flush=True)
            self.next_tenth = processed * 10 // max(total, 1) + 1


def document_of(client, corpus, facts, num_tokens, seed):
    """About num_tokens (never more) of corpus with the facts planted in it."""
    num_chars = int(num_tokens * 3.5)
    for _ in range(4):
        while len(corpus) < num_chars:
            corpus += corpus
        text = demo_facts.plant(corpus[:num_chars], facts, seed)
        counted = client.count_tokens(text)
        if 0.99 * num_tokens <= counted <= num_tokens:
            break
        num_chars = int(num_chars * 0.997 * num_tokens / counted)
    return text


def show(answer, verdict):
    print(f"  answer   {answer.text.strip()}{verdict}")
    usage = answer.usage
    attention = usage.get("attention")
    looked = ""
    if attention:
        share = attention["blocks_attended"] / max(attention["blocks_available"], 1)
        looked = f", {share:.1%} of the blocks attended"
    print(f"  prompt   {usage['prompt_tokens']:,} tokens, {answer.cached_tokens:,} cached{looked}")
    print(f"  timings  first token {answer.first_token_s:.3f} s, "
          f"prefill {answer.prefill_tokens_per_s:,.0f} tok/s, "
          f"decode {answer.decode_tokens_per_s:,.0f} tok/s")


def ask_planted(client, args):
    facts = demo_facts.make_facts(args.facts, args.seed)
    corpus = demo_facts.load_corpus(args.cache_dir)
    context = client.get("/v1/models")["data"][0]["max_model_len"]
    num_tokens = min(args.tokens, context - QUESTION_RESERVE_TOKENS)
    if num_tokens < args.tokens:
        print(f"the server's context is {context:,} tokens: the document is cut to fit")
    document = document_of(client, corpus, facts, num_tokens, args.seed)
    print(f"document: the Python documentation with {len(facts)} planted facts, "
          f"{len(document) / 1e6:.2f} MB")
    num_right = 0
    for number, fact in enumerate(facts):
        print(f"\nquestion {number + 1} of {len(facts)}: {fact.question()}")
        answer = client.ask(document, fact.question(), ProgressLine() if number == 0 else skip)
        right = fact.is_answered_by(answer.text)
        num_right += right
        show(answer, "   [right]" if right else f"   [wrong: {fact.value}]")
    print(f"\nright answers: {num_right} of {len(facts)}")


def skip(_processed, _total):
    pass


def ask_own(client, args):
    document = pathlib.Path(args.document).read_text(encoding="utf-8")
    for number, question in enumerate(args.question):
        print(f"\nquestion: {question}")
        show(client.ask(document, question, ProgressLine() if number == 0 else skip), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--tokens", type=int, default=1 << 20, help="length of the document")
    parser.add_argument("--facts", type=int, default=12, help="facts to plant and to ask about")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache-dir", default="build/demo")
    parser.add_argument("--document", help="a text file of your own")
    parser.add_argument("--question", action="append", help="about --document; may be repeated")
    args = parser.parse_args()
    if bool(args.document) != bool(args.question):
        parser.error("--document and --question go together")
    client = Client(args.url)
    (ask_own if args.document else ask_planted)(client, args)


if __name__ == "__main__":
    main()
