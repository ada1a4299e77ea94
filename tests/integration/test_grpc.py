"""quire.v1 through Python gRPC: the same answers and refusals as HTTP, health and reflection."""

import importlib
import pathlib
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_tools import protoc

from conftest import SOURCE_DIR

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(path) for path in (SOURCE_DIR / "proto/quire/v1").glob("*.proto"))
    assert protoc.main(["protoc", f"-I{SOURCE_DIR / 'proto'}", f"--python_out={out}",
                        f"--grpc_python_out={out}", *protos]) == 0
    sys.path.insert(0, str(out))
    modules = {}
    for proto in protos:
        stem = pathlib.Path(proto).stem
        for suffix in ("_pb2", "_pb2_grpc"):
            modules[stem + suffix] = importlib.import_module(f"quire.v1.{stem}{suffix}")
    return modules


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as opened:
        yield opened


def test_health_and_reflection(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name for service in next(listing).list_services_response.service}
    assert {"quire.v1.Chat", "quire.v1.Completion", "quire.v1.Models",
            "quire.v1.Tokenizer"} <= names
