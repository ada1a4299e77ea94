"""quire.v1 from Python: stubs, requests made of their JSON twins, answers in a common form."""

import dataclasses
import importlib
import json
import pathlib
import sys

import grpc
import httpx
from grpc_tools import protoc

# Fields of GenerationOptions that have the name and the type of their JSON twin.
SAME_NAME = ("max_tokens", "min_tokens", "n", "stop_token_ids", "ignore_eos", "skip_special_tokens",
             "return_token_ids", "return_progress", "temperature", "top_p", "min_p", "top_k",
             "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "priority",
             "cache_salt", "prompt_cache_key")
REQUEST_FIELDS = {"model", "messages", "prompt", "add_generation_prompt", "continue_final_message",
                  "echo", "tools", "tool_choice", "chat_template_kwargs"}
AS_JSON_TEXT = {"tools", "tool_calls", "chat_template_kwargs"}
OPTION_FIELDS = {*SAME_NAME, "stop", "logit_bias", "attention", "logprobs", "top_logprobs"}
CALL_LIMIT_S = 300


def load_stubs(proto_dir, out):
    """Compiles the protos; {"chat_pb2": module, "chat_pb2_grpc": module, …}."""
    protos = sorted(str(path) for path in (proto_dir / "quire/v1").glob("*.proto"))
    assert protoc.main(["protoc", f"-I{proto_dir}", f"--python_out={out}",
                        f"--grpc_python_out={out}", *protos]) == 0
    sys.path.insert(0, str(out))
    stems = [pathlib.Path(proto).stem for proto in protos]
    return {stem + suffix: importlib.import_module(f"quire.v1.{stem}{suffix}")
            for stem in stems for suffix in ("_pb2", "_pb2_grpc")}


def proto_fields(fields):
    """Fields of a JSON body as those of its proto twin: objects and lists travel as JSON text."""
    return {name + "_json" if name in AS_JSON_TEXT else name:
            json.dumps(value, ensure_ascii=False) if name in AS_JSON_TEXT else value
            for name, value in fields.items() if value is not None}


class GrpcClient:
    """Calls quire.v1 with JSON bodies; a call's errors are grpc.RpcError."""

    def __init__(self, stubs, port, host="127.0.0.1", key=None, options=()):
        self.stubs = stubs
        self.channel = grpc.insecure_channel(f"{host}:{port}", options)
        self.metadata = [("authorization", f"Bearer {key}")] if key else []

    def close(self):
        self.channel.close()

    def message(self, name, **fields):
        module = {"Chat": "chat", "Completion": "completion", "TokenIds": "completion",
                  "GenerationOptions": "generation", "ListModelsRequest": "models"}
        stem = next((stem for start, stem in module.items() if name.startswith(start)),
                    "tokenizer")
        return getattr(self.stubs[stem + "_pb2"], name)(**fields)

    def service(self, name):
        return getattr(self.stubs[name.lower() + "_pb2_grpc"], name + "Stub")(self.channel)

    def generate(self, body, timeout=CALL_LIMIT_S):
        """The stream of Chat.Complete or Completion.Complete."""
        if "messages" in body:
            return self.service("Chat").Complete(self.chat_request(body), timeout=timeout,
                                                 metadata=self.metadata)
        return self.service("Completion").Complete(self.completion_request(body), timeout=timeout,
                                                   metadata=self.metadata)

    def encode(self, body):
        request = self.message("EncodeRequest", model=body.get("model", ""), text=body["prompt"])
        if "add_special_tokens" in body:
            request.add_special_tokens = body["add_special_tokens"]
        return self.service("Tokenizer").Encode(request, timeout=CALL_LIMIT_S,
                                                metadata=self.metadata)

    def decode(self, body):
        request = self.message("DecodeRequest", model=body.get("model", ""), tokens=body["tokens"])
        return self.service("Tokenizer").Decode(request, timeout=CALL_LIMIT_S,
                                                metadata=self.metadata)

    def list_models(self):
        return self.service("Models").List(self.message("ListModelsRequest"), timeout=CALL_LIMIT_S,
                                           metadata=self.metadata)

    def chat_request(self, body):
        request = self.message("ChatRequest", model=body.get("model", ""),
                               options=self.options(body))
        for message in body["messages"]:
            request.messages.add(**proto_fields(message))
        of_chat = ("add_generation_prompt", "continue_final_message", "tools", "tool_choice",
                   "chat_template_kwargs")
        for field, value in proto_fields({name: body[name] for name in of_chat
                                          if name in body}).items():
            setattr(request, field, value)
        return request

    def completion_request(self, body):
        request = self.message("CompletionRequest", model=body.get("model", ""),
                               echo=body.get("echo", False), options=self.options(body))
        prompt = body["prompt"]
        if isinstance(prompt, str):
            prompt = [prompt]
        if prompt and isinstance(prompt[0], int):
            prompt = [prompt]
        for one in prompt:
            if isinstance(one, str):
                request.prompts.append(one)
            else:
                request.token_prompts.append(self.message("TokenIds", ids=one))
        return request

    def options(self, body):
        assert body.keys() <= REQUEST_FIELDS | OPTION_FIELDS, body.keys()
        options = self.message("GenerationOptions",
                               **{name: body[name] for name in SAME_NAME if name in body})
        stop = body.get("stop", [])
        options.stop.extend([stop] if isinstance(stop, str) else stop)
        for token, bias in body.get("logit_bias", {}).items():
            options.logit_bias[int(token)] = bias
        attention = body.get("attention", {})
        options.attention.mode = attention.get("mode", "")
        if "top_k" in attention:
            options.attention.top_k = attention["top_k"]
        if body.get("logprobs") is not None and body["logprobs"] is not False:
            is_chat = "messages" in body
            options.top_logprobs = body.get("top_logprobs", 0) if is_chat else body["logprobs"]
        return options


@dataclasses.dataclass
class Choice:
    text: str = ""
    reason: str | None = None
    token_ids: list[int] = dataclasses.field(default_factory=list)
    # chat: (bytes, logprob, alternatives); completions: (text, logprob, {text: logprob})
    logprobs: list[tuple] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Answer:
    """What both protocols say about a generation; equal if they say the same."""

    model: str
    choices: dict[int, Choice] = dataclasses.field(default_factory=dict)
    usage: dict[str, int] = dataclasses.field(default_factory=dict)

    def choice(self, index):
        return self.choices.setdefault(index, Choice())


def usage_of_json(usage):
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return {"prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"], **usage["attention"]}


def add_json_choice(answer, choice):
    """Adds a choice of an answer, or of a chunk."""
    collected = answer.choice(choice["index"])
    part = choice.get("message") or choice.get("delta") or {"content": choice.get("text", "")}
    collected.text += part.get("content", "")
    collected.token_ids += choice.get("token_ids", [])
    collected.reason = choice["finish_reason"] or collected.reason
    logprobs = choice["logprobs"] or {}
    for entry in logprobs.get("content", []):
        collected.logprobs.append(
            (bytes(entry["bytes"]), entry["logprob"],
             [(bytes(top["bytes"]), top["logprob"]) for top in entry["top_logprobs"]]))
    collected.logprobs += zip(logprobs.get("tokens", []), logprobs.get("token_logprobs", []),
                              logprobs.get("top_logprobs", []))


def ask_http(server, body):
    route = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    reply = server.post(route, json=body)
    assert reply.status_code == 200, reply.text
    parsed = reply.json()
    answer = Answer(parsed["model"], usage=usage_of_json(parsed["usage"]))
    for choice in parsed["choices"]:
        add_json_choice(answer, choice)
    return answer


def ask_http_stream(server, body):
    route = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    answer = None
    with httpx.stream("POST", server.url + route, json=body, timeout=CALL_LIMIT_S) as reply:
        assert reply.status_code == 200, reply.read()
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            answer = answer or Answer(chunk["model"])
            for choice in chunk["choices"]:
                add_json_choice(answer, choice)
            if chunk["usage"]:
                answer.usage = usage_of_json(chunk["usage"])
    return answer


def add_grpc_delta(answer, delta, is_chat):
    collected = answer.choice(delta.choice)
    collected.text += delta.text
    collected.token_ids += delta.token_ids
    for entry in delta.logprobs:
        top = [(other.token, other.logprob) for other in entry.top]
        if is_chat:
            collected.logprobs.append((entry.token, entry.logprob, top))
        else:
            collected.logprobs.append(
                (entry.token.decode(errors="replace"), entry.logprob,
                 {token.decode(errors="replace"): logprob
                  for token, logprob in [(entry.token, entry.logprob), *top]}))


def ask_grpc(client, body):
    """Also checks the order of events that generation.proto promises."""
    events = list(client.generate(body))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "admitted" and kinds[-1] == "usage"
    assert kinds.count("admitted") == kinds.count("usage") == 1
    answer = Answer(events[0].admitted.model)
    for event, kind in zip(events, kinds):
        if kind == "delta":
            assert answer.choice(event.delta.choice).reason is None, "a delta after the end"
            add_grpc_delta(answer, event.delta, "messages" in body)
        elif kind == "finished":
            assert answer.choice(event.finished.choice).reason is None, "finished twice"
            answer.choice(event.finished.choice).reason = event.finished.reason
    usage = events[-1].usage
    assert sum(events[0].admitted.prompt_tokens) == usage.prompt_tokens
    answer.usage = {name: getattr(usage, name)
                    for name in ("prompt_tokens", "completion_tokens", "cached_tokens",
                                 "blocks_attended", "blocks_available")}
    return answer


@dataclasses.dataclass
class Refusal:
    code: grpc.StatusCode
    message: str
    param: str | None
    error_code: str | None
    retry_after: str | None


def grpc_refusal(call):
    """How a call fails; `call` runs it to its end."""
    try:
        call()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        return Refusal(error.code(), error.details(), trailers.get("quire-error-param"),
                       trailers.get("quire-error-code"), trailers.get("retry-after"))
    raise AssertionError("the call was not refused")
