"""The settings files that come with the product: they load, and the reference has every key."""

import re
import subprocess

import pytest

from conftest import MODEL_DIR, SERVER, SOURCE_DIR

CONFIGS = sorted((SOURCE_DIR / "configs").glob("*.toml"))
NOT_IN_FILES = {"help", "version", "config", "check-config"}


def run(*args):
    return subprocess.run([SERVER, *args], capture_output=True, text=True, timeout=60, check=False)


def reference_keys():
    """Key → value as written, of lines that are in force and lines that are commented out."""
    text = (SOURCE_DIR / "configs" / "reference.toml").read_text()
    lines = re.findall(r"^(?:# )?([a-z][a-z-]*) = (\[.*?\]|\".*?\"|\S+)", text, flags=re.MULTILINE)
    assert len(lines) == len(dict(lines)), "a key is explained twice"
    return dict(lines)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_file_passes_check_config(file):
    # The pool is the machine's business; everything else is as the file says.
    done = run("--config", str(file), "--check-config", "--kv-cache-memory", "6GiB")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_explains_every_flag_at_its_default():
    flags = dict(re.findall(r"^  (?:-\w,)?--([a-z-]+)(?:.*?(?<!\()=(\S+))?",
                            run("--help").stdout, flags=re.MULTILINE))
    keys = reference_keys()
    assert set(keys) == set(flags) - NOT_IN_FILES
    for flag, default in flags.items():
        if default and flag not in NOT_IN_FILES:
            assert keys[flag].strip('"') == default, flag


def test_a_file_in_which_every_key_is_set_is_understood(tmp_path):
    keys = reference_keys() | {"model": f'"{MODEL_DIR}"',
                               "kv-cache-memory": '"5GiB"',
                               "api-key-file": f'"{tmp_path / "keys"}"'}
    (tmp_path / "keys").write_text("one\n")
    file = tmp_path / "all.toml"
    file.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    done = run("--config", str(file), "--check-config")
    assert (done.returncode, done.stderr) == (0, "")
