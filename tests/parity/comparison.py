"""What the comparisons share: where things are, the real server, and a salt that makes every run one of its own."""

import importlib.util
import os
import pathlib
import secrets
import sys

SOURCE_DIR = pathlib.Path(os.environ["QUIRE_SOURCE_DIR"])
BUILD_DIR = pathlib.Path(os.environ["QUIRE_BUILD_DIR"])
TOOLS = SOURCE_DIR / "models" / "tools"
GOLDEN = SOURCE_DIR / "tests"
sys.path += [str(TOOLS), str(SOURCE_DIR / "tests" / "integration")]

# Numbers of the weights, prompts and texts follow from it: QUIRE_PARITY_SALT repeats a run.
SALT = os.environ.get("QUIRE_PARITY_SALT") or secrets.token_hex(4)


def load_module(name, path):
    """Of a file whose own name is another file's, too."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jinja_golden = load_module("jinja_golden", GOLDEN / "engine" / "jinja" / "make_golden.py")
integration = load_module("integration_conftest", GOLDEN / "integration" / "conftest.py")
