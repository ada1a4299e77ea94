"""Clients that leave, stall or crowd: nothing is lost, leaked or left running."""

import json
import socket

from conftest import MODEL

CHAT = "/v1/chat/completions"


def raw_request(server, body, path=CHAT):
    payload = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
    return connection


def long_body(make_text, words, **kwargs):
    return {"messages": [{"role": "system", "content": make_text(words)},
                         {"role": "user", "content": "Why?"}], "temperature": 0, **kwargs}


def test_disconnect_during_prefill_frees_everything(start_server, make_text):
    with start_server("--max-step-tokens", "64", "--backend", "reference") as server:
        for stream in (False, True):
            connection = raw_request(server, long_body(make_text, 20_000, stream=stream))
            server.wait_for(lambda: server.metric("quire_sequences_running") == 1)
            before = server.metric("quire_prefill_tokens_total")
            connection.close()
            server.wait_until_idle()
            assert server.metric("quire_prefill_tokens_total") - before < 15_000
        assert server.post(CHAT, json=long_body(make_text, 5, max_tokens=1)).status_code == 200


def test_disconnect_during_decode_frees_everything(server, make_text):
    connection = raw_request(server, long_body(make_text, 50, max_tokens=100_000, stream=True,
                                               ignore_eos=True))
    assert connection.recv(4096)
    server.wait_for(lambda: server.metric("quire_sequences_running") == 1)
    connection.close()
    server.wait_until_idle()


def test_client_that_never_reads_is_cut(start_server, make_text):
    with start_server("--max-unsent-stream-bytes", "65536") as server:
        stalled = raw_request(server, long_body(make_text, 20, max_tokens=400_000, stream=True,
                                                ignore_eos=True, logprobs=True, top_logprobs=20))
        server.wait_for(lambda: server.metric("quire_http_clients_disconnected_total") == 1)
        assert server.post(CHAT, json=long_body(make_text, 5, max_tokens=1)).status_code == 200
        server.wait_until_idle()
        stalled.close()


def test_five_hundred_idle_connections_disturb_nobody(server, make_text):
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(500)]
    try:
        assert server.post(CHAT, json=long_body(make_text, 5, max_tokens=2)).status_code == 200
        assert server.get("/livez").status_code == 200
    finally:
        for connection in idle:
            connection.close()
    server.wait_for(lambda: server.metric("quire_http_open_connections") < 50)


def test_connections_that_close_at_once_do_not_stop_accepting(server):
    for _ in range(3000):
        socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
    assert server.get("/livez").status_code == 200


def test_keep_alive_and_requests_in_a_row(server):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    for _ in range(3):
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 200")
    connection.close()


def test_garbage_on_the_socket_is_answered_or_closed(server):
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", b"\r\n\r\n\r\n\x00"):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass
        connection.close()
    assert server.get("/livez").status_code == 200


def test_many_streams_at_once_give_the_same_text(client, server):
    import concurrent.futures

    def ask(number):
        answer = client.chat.completions.create(
            model=MODEL, temperature=0, max_tokens=24,
            messages=[{"role": "system", "content": f"The budget of the Taska project is {number}."},
                      {"role": "user", "content": "What is the budget of the Taska project?"}])
        return answer.choices[0].message.content

    alone = [ask(number) for number in range(100, 116)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(100, 116)))
    assert together == alone
    server.wait_until_idle()
