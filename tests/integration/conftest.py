"""Starts the real binary for a test module and waits for it by its own words."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import httpx
import openai
import pytest

from grpc_client import GrpcClient, load_stubs

SOURCE_DIR = pathlib.Path(os.environ["QUIRE_SOURCE_DIR"])
SERVER = os.environ["QUIRE_SERVER"]
MODEL_DIR = SOURCE_DIR / "models" / "quire-6m"
MODEL = MODEL_DIR.name
READY = re.compile(r"ready.*\bhttp=\S*:(\d+)(?:\s+grpc=\S*:(\d+))?\s*$")
SLOWNESS = int(os.environ.get("QUIRE_TEST_SLOWNESS", "1"))  # of a sanitizer
START_LIMIT_S = 120 * SLOWNESS


class Server:
    def __init__(self, *flags, env=None, model=MODEL_DIR):
        self.process = subprocess.Popen(
            [SERVER, "--model", str(model), "--port", "0", "--grpc-port", "0",
             "--kv-cache-memory", "1GiB", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **(env or {})})
        self.log, self._ready = [], threading.Event()
        self.port = self.grpc_port = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_LIMIT_S) or self.port is None:
            self.process.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self.log))
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line)
            match = READY.search(line)
            if match:
                self.port = int(match.group(1))
                self.grpc_port = int(match.group(2)) if match.group(2) else None
                self._ready.set()
        self._ready.set()

    def openai(self, api_key="unused"):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=api_key, max_retries=0,
                             timeout=300 * SLOWNESS)

    def get(self, path, **kwargs):
        return httpx.get(self.url + path, timeout=60 * SLOWNESS, **kwargs)

    def post(self, path, **kwargs):
        return httpx.post(self.url + path, timeout=300 * SLOWNESS, **kwargs)

    def metric(self, name, **kwargs):
        for line in self.get("/metrics", **kwargs).text.splitlines():
            if re.match(rf"{re.escape(name)}(\{{|\s)", line):
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)

    def wait_for(self, condition, limit_s=60 * SLOWNESS):
        """Polls a condition on the server's state; the state, not the clock, decides."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "the server never reached the expected state"
            time.sleep(0.02)

    def wait_until_idle(self):
        self.wait_for(lambda: self.metric("quire_sequences_running") == 0
                      and self.metric("quire_sequences_waiting") == 0
                      and self.metric("quire_blocks_in_use") == 0)

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout=120)
        self._reader.join()
        return code


@contextlib.contextmanager
def running(*flags, env=None, model=MODEL_DIR):
    server = Server(*flags, env=env, model=model)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started
        assert started.process.poll() is None, "the server died:\n" + "".join(started.log[-20:])
        assert started.stop() == 0, "".join(started.log[-20:])


@pytest.fixture
def client(server):
    return server.openai()


@pytest.fixture(scope="session")
def start_server():
    return running


@pytest.fixture(scope="session")
def connect_grpc(tmp_path_factory):
    """Opens a client of quire.v1 for a server; all are closed at the end."""
    stubs = load_stubs(SOURCE_DIR / "proto", tmp_path_factory.mktemp("stubs"))
    with contextlib.ExitStack() as opened:
        def connect(server, **kwargs):
            return opened.enter_context(
                contextlib.closing(GrpcClient(stubs, server.grpc_port, **kwargs)))
        yield connect


@pytest.fixture(scope="module")
def grpc_client(server, connect_grpc):
    return connect_grpc(server)


def numbered_text(num_words, seed=0):
    """Plain text of so many words, the same for the same seed."""
    words = ("the block of a cache holds keys and values for tokens that were read before "
             "and a gate decides which of them the next token looks at").split()
    return " ".join(words[(i * 7 + seed * 3 + i // 11) % len(words)] for i in range(num_words))


@pytest.fixture(scope="session")
def make_text():
    return numbered_text
