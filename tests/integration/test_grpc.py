"""What only gRPC has: health, reflection, keys in metadata, cancellation, deadlines, limits.

That its answers and refusals are those of HTTP is test_parity.py's."""

import signal
import socket

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from grpc_client import ask_grpc, ask_http, grpc_refusal

CHAT = "/v1/chat/completions"
OK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
ENDLESS = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100_000,
           "ignore_eos": True, "temperature": 0}
SERVICES = {"quire.v1.Chat", "quire.v1.Completion", "quire.v1.Models", "quire.v1.Tokenizer"}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def kinds(events):
    return [event.WhichOneof("event") for event in events]


def read_until(call, kind):
    """Events up to the first of a kind."""
    events = []
    for event in call:
        events.append(event)
        if event.WhichOneof("event") == kind:
            return events
    raise AssertionError(f"no {kind} among {kinds(events)}")


def health(client, service=""):
    stub = health_pb2_grpc.HealthStub(client.channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status


def test_health(grpc_client):
    for service in ("", *SERVICES):
        assert health(grpc_client, service) == SERVING, service
    assert grpc_refusal(lambda: health(grpc_client, "quire.v1.Nothing")).code == \
        grpc.StatusCode.NOT_FOUND


def reflect(client, **request):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    return next(stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=30))


def test_reflection_tells_services_and_methods(grpc_client):
    listed = reflect(grpc_client, list_services="").list_services_response.service
    assert SERVICES | {"grpc.health.v1.Health"} <= {service.name for service in listed}
    answer = reflect(grpc_client, file_containing_symbol="quire.v1.Chat")
    files = [descriptor_pb2.FileDescriptorProto.FromString(data)
             for data in answer.file_descriptor_response.file_descriptor_proto]
    chat = next(service for file in files for service in file.service if service.name == "Chat")
    assert [(method.name, method.server_streaming) for method in chat.method] == \
        [("Complete", True)]


CALLS = {
    "chat": lambda client: list(client.generate(OK)),
    "completion": lambda client: list(client.generate({"prompt": "hi", "max_tokens": 1})),
    "models": lambda client: client.list_models(),
    "encode": lambda client: client.encode({"prompt": "hi"}),
    "decode": lambda client: client.decode({"tokens": [1]}),
}


@pytest.fixture(scope="module")
def guarded(start_server):
    with start_server("--api-key", "sk-one", "--api-key", "sk-two") as started:
        yield started
        assert started.stop() == 0, "".join(started.log[-20:])


@pytest.mark.parametrize("call", CALLS)
def test_keys(guarded, connect_grpc, call):
    def prompt_tokens():
        return guarded.metric("quire_prompt_tokens_total",
                              headers={"authorization": "Bearer sk-one"})

    before = prompt_tokens()
    without = connect_grpc(guarded)
    for authorization in (None, "", "Bearer", "Bearer ", "Bearer sk-onf", "Bearer sk-one2",
                          "sk-one", "Basic sk-one", "Bearer Bearer sk-one"):
        without.metadata = [] if authorization is None else [("authorization", authorization)]
        refused = grpc_refusal(lambda: CALLS[call](without))
        assert refused.code == grpc.StatusCode.UNAUTHENTICATED, authorization
        assert refused.error_code == "invalid_api_key" and refused.param is None
    assert prompt_tokens() == before, "nothing may be served"
    for key in ("sk-one", "sk-two"):
        CALLS[call](connect_grpc(guarded, key=key))
    assert prompt_tokens() > before or call not in ("chat", "completion")


def test_health_needs_no_key(guarded, connect_grpc):
    assert health(connect_grpc(guarded)) == SERVING


def test_keys_do_not_share_prefixes_but_protocols_do(guarded, connect_grpc, make_text):
    body = {"messages": [{"role": "user", "content": make_text(800)}], "max_tokens": 1}

    def cached(key):
        return ask_grpc(connect_grpc(guarded, key=key), body).usage["cached_tokens"]

    assert cached("sk-one") == 0
    assert cached("sk-two") == 0
    again = guarded.post(CHAT, json=body, headers={"authorization": "Bearer sk-one"}).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == cached("sk-one") > 0


@pytest.mark.parametrize("when", ["admitted", "delta"])
def test_cancellation_frees_everything(server, grpc_client, when):
    before = server.metric("quire_generation_tokens_total")
    call = grpc_client.generate(ENDLESS)
    read_until(call, when)
    server.wait_for(lambda: server.metric("quire_sequences_running") == 1)
    call.cancel()
    server.wait_until_idle()
    assert call.code() == grpc.StatusCode.CANCELLED
    assert server.metric("quire_generation_tokens_total") - before < ENDLESS["max_tokens"]


def test_cancellation_of_several_choices(server, grpc_client):
    call = grpc_client.generate({**ENDLESS, "n": 4})
    read_until(call, "delta")
    server.wait_for(lambda: server.metric("quire_sequences_running") == 4)
    call.cancel()
    server.wait_until_idle()


def test_a_client_that_vanishes_frees_everything(server, connect_grpc):
    client = connect_grpc(server, options=[("grpc.use_local_subchannel_pool", 1)])
    call = client.generate(ENDLESS)  # kept: a call that is dropped is cancelled
    read_until(call, "delta")
    server.wait_for(lambda: server.metric("quire_sequences_running") == 1)
    client.close()
    server.wait_until_idle()


def test_a_client_that_never_reads_is_cut(server, grpc_client):
    call = grpc_client.generate({**ENDLESS, "n": 16, "logprobs": True, "top_logprobs": 20})
    next(call)
    server.wait_for(lambda: server.metric("quire_sequences_running") == 16)
    server.wait_until_idle()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() == grpc.StatusCode.CANCELLED


def test_deadline_of_the_call_ends_the_generation(server, grpc_client):
    call = grpc_client.generate(ENDLESS, timeout=1)
    events = []
    refused = grpc_refusal(lambda: events.extend(call))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_until_idle()
    assert kinds(events)[-1] == "delta", "it was cut in the middle"


def test_deadline_of_the_server_ends_calls_without_one_like_http(start_server, connect_grpc):
    with start_server("--request-timeout", "0.5") as server:
        call = connect_grpc(server).generate(ENDLESS, timeout=None)
        read_until(call, "delta")
        refused = grpc_refusal(lambda: list(call))
        over_http = server.post(CHAT, json=ENDLESS)
        error = over_http.json()["error"]
        assert over_http.status_code == 504 and refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert refused.error_code == error["code"] == "deadline_exceeded"
        assert refused.message == error["message"]
        server.wait_until_idle()


def test_message_too_large_is_refused_like_a_large_body(start_server, connect_grpc):
    with start_server("--max-body-size", "1MiB") as server:
        client = connect_grpc(server, options=UNLIMITED)

        def body(num_bytes):
            return {**OK, "messages": [{"role": "user", "content": "a" * num_bytes}]}

        refused = grpc_refusal(lambda: list(client.generate(body(2 << 20))))
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(1 << 20) in refused.message
        assert server.post(CHAT, json=body(2 << 20)).status_code == 413
        assert server.metric("quire_prompt_tokens_total") == 0
        assert len(client.encode({"prompt": "a" * 1_000_000}).tokens) > 1000


def test_message_of_megabytes_passes(server, connect_grpc, make_text):
    """gRPC's own default of 4 MiB is too small for a million tokens."""
    client = connect_grpc(server, options=UNLIMITED)
    text = make_text(1_200_000)
    assert len(text) > 5 << 20
    assert len(client.encode({"prompt": text}).tokens) > 1_000_000


def test_garbage_is_refused_and_the_server_lives(server, grpc_client):
    for data in (b"\xff" * 40, b"\x0a\x02\xff\xfe", b"\x12"):  # no message; no UTF-8; cut off
        call = grpc_client.channel.unary_stream("/quire.v1.Chat/Complete")
        assert grpc_refusal(lambda: list(call(data, timeout=30))).code != grpc.StatusCode.OK, data
    unknown = grpc_client.channel.unary_unary("/quire.v1.Chat/Nothing")
    assert grpc_refusal(lambda: unknown(b"", timeout=30)).code == grpc.StatusCode.UNIMPLEMENTED
    assert ask_grpc(grpc_client, OK).choices[0].reason == "length"
    assert server.get("/livez").status_code == 200


@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "presence_penalty",
                                   "frequency_penalty", "repetition_penalty"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_write(grpc_client, field, value):
    refused = grpc_refusal(lambda: list(grpc_client.generate({**OK, field: value})))
    assert (refused.code, refused.param) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_texts_and_token_ids_exclude_each_other(grpc_client):
    request = grpc_client.completion_request({"prompt": "hi", "max_tokens": 1})
    request.token_prompts.append(grpc_client.message("TokenIds", ids=[1]))
    refused = grpc_refusal(lambda: list(grpc_client.service("Completion").Complete(request)))
    assert (refused.code, refused.param) == (grpc.StatusCode.INVALID_ARGUMENT, "prompt")


def test_progress_is_opt_in_and_ends_at_the_total(start_server, connect_grpc, make_text):
    with start_server("--max-step-tokens", "256") as server:
        client = connect_grpc(server)
        body = {"messages": [{"role": "user", "content": make_text(2000)}], "temperature": 0,
                "max_tokens": 4, "return_progress": True}
        events = list(client.generate(body))
        progress = [event.progress for event in events if event.HasField("progress")]
        total = events[0].admitted.prompt_tokens[0]
        assert len(progress) >= 4 and progress[-1].processed == total
        done = [entry.processed for entry in progress]
        assert done == sorted(done)
        assert {(entry.total, entry.cached, entry.choice) for entry in progress} == {(total, 0, 0)}
        order = kinds(events)
        assert "progress" not in order[order.index("delta"):]
        again = [event.progress for event in client.generate(body) if event.HasField("progress")]
        assert {entry.cached for entry in again} == {ask_http(server, body).usage["cached_tokens"]}
        assert again[0].cached > 0
        del body["return_progress"]
        assert not {"progress", "queued"} & set(kinds(client.generate(body)))


@pytest.fixture
def full(start_server, connect_grpc):
    """A server that runs one request and has two waiting: the most that it takes."""
    with start_server("--max-num-seqs", "1", "--max-queued-requests", "2") as server:
        client = connect_grpc(server)
        running = client.generate(ENDLESS)
        read_until(running, "delta")
        waiting = []
        for number in (1, 2):
            waiting.append(client.generate({**ENDLESS, "return_progress": True}))
            server.wait_for(lambda: server.metric("quire_sequences_waiting") == number)
        yield server, client, running, waiting


def test_position_in_the_queue(full):
    server, _, running, waiting = full
    running.cancel()
    for position, call in enumerate(waiting):
        events = read_until(call, "delta")
        assert kinds(events)[:2] == ["admitted", "queued"]
        assert events[1].queued.position == position
        assert "queued" not in kinds(events[2:])
        call.cancel()
    server.wait_until_idle()


def test_a_full_queue_says_when_to_come_back(full):
    server, client, running, waiting = full
    refused = grpc_refusal(lambda: list(client.generate(OK)))
    over_http = server.post(CHAT, json=OK)
    error = over_http.json()["error"]
    assert (over_http.status_code, refused.code) == (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert refused.error_code == error["code"] == "rate_limit_exceeded"
    assert int(refused.retry_after) >= 1 and int(over_http.headers["retry-after"]) >= 1
    for call in (running, *waiting):
        call.cancel()
    server.wait_until_idle()
    assert ask_grpc(client, OK).choices[0].reason == "length"


def test_draining(start_server, connect_grpc):
    with start_server() as server:
        client = connect_grpc(server)
        watch = health_pb2_grpc.HealthStub(client.channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == SERVING
        call = client.generate({**ENDLESS, "max_tokens": 2000})
        read_until(call, "delta")
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        refused = grpc_refusal(lambda: list(client.generate(OK)))
        over_http = httpx.post(server.url + CHAT, json=OK, timeout=60)
        assert (over_http.status_code, refused.code) == (503, grpc.StatusCode.UNAVAILABLE)
        assert refused.error_code == over_http.json()["error"]["code"] == "unavailable"
        assert refused.retry_after == over_http.headers["retry-after"]
        assert kinds(call)[-2:] == ["finished", "usage"], "what runs is finished"
        assert call.code() == grpc.StatusCode.OK
        assert server.stop() == 0


def test_an_idle_client_does_not_hold_up_the_end(start_server, connect_grpc):
    with start_server() as server:
        ask_grpc(connect_grpc(server), OK)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=3)
        assert server.stop() == 0


def test_ipv6(start_server, connect_grpc):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with start_server("--host", "::1") as server:
        assert health(connect_grpc(server, host="[::1]")) == SERVING
        assert httpx.get(f"http://[::1]:{server.port}/readyz").status_code == 200
