"""The `fairlane` command itself, as its users start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.ops import cli

FAIRLANE = Path(sys.executable).parent / "fairlane"


def fairlane(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        [FAIRLANE, *arguments], env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_help_lists_every_command_that_is_there_and_loads_none_of_them() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from core.ops import cli\n"
        "print(CliRunner().invoke(cli.app, ['--help']).stdout)\n"
        "print([m for m in sys.modules if m.startswith(('core.ops.', 'core.adapters', 'grpc', 'redis'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    *shown, loaded = done.stdout.splitlines()
    assert loaded == "['core.ops.cli']"
    here = Path(str(cli.__file__)).parent
    modules = {path.stem for path in here.glob("*.py")} | {path.parent.name for path in here.glob("*/*.py")}
    for name in cli.COMMANDS:
        assert any(f"│ {name} " in line for line in shown) == (name in modules)


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if find_spec(f"core.ops.{name}")])
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli.app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: fairlane {name}" in result.stdout
    assert "completion" not in result.stdout


def test_an_error_is_one_message_without_a_traceback() -> None:
    done = fairlane("clinics", "list")
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr
        == "error: settings are missing or wrong:\n  GOOGLE_CLOUD_PROJECT is required: the project\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["capacity", "--tfvars", "/nonexistent/x"], "--tfvars /nonexistent/x: No such file or directory"),
        (["capacity", "--tfvars=/nonexistent/x"], "--tfvars /nonexistent/x: No such file or directory"),
        (["demo", "--keep", "/dev/null/logs"], "--keep /dev/null/logs: Not a directory"),
    ],
)
def test_file_that_can_not_be_written_is_named_with_its_option(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["capacity"], ["capacity", "--json"]])
def test_full_disk_behind_standard_output_is_an_error_without_a_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [FAIRLANE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def test_pipe_that_is_closed_early_is_no_error_to_read_about() -> None:
    command = f"{FAIRLANE} capacity --json | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""


def test_wrong_usage_is_2_and_suggests_what_was_meant() -> None:
    done = fairlane("clinic")
    assert done.returncode == 2
    assert "Did you mean 'clinics'?" in done.stderr
    assert fairlane("clinics", "apply").returncode == 2


def test_version() -> None:
    done = fairlane("--version")
    assert (done.returncode, done.stdout) == (0, "fairlane 1.0.0\n")


def test_ctrl_c_is_130_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        env = {"FIRESTORE_EMULATOR_HOST": address, "GOOGLE_CLOUD_PROJECT": "p"}
        command = [str(FAIRLANE), "clinics", "list"]
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()  # it waits for the store now
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            connection.close()
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
