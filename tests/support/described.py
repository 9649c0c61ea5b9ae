"""All that a test says to LINE's and OpenAI's stand-ins, and they say, is as their specifications have it.

`FAIRLANE_SPECS` names the specifications' folder, by default `../shared/spec` beside the checkout. In CI a
missing one is a failure. Checking needs what the extra `dev` brings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from core.local.specs import FOLDER, Specs, specs

_BESIDE = Path(__file__).parents[3] / "shared" / "spec"

_CAN_CHECK = all(map(find_spec, ("jsonschema_rs", "yaml")))

if FOLDER not in os.environ and _BESIDE.is_dir() and _CAN_CHECK:
    os.environ[FOLDER] = str(_BESIDE)


def pytest_configure() -> None:
    folder = os.environ.get(FOLDER)
    if folder and not Path(folder, "line", "webhook.yml").is_file():
        raise pytest.UsageError(f"{FOLDER}={folder}: no specifications are there")
    if os.environ.get("CI") == "true" and not folder:
        missing = _BESIDE if _CAN_CHECK else "jsonschema-rs or PyYAML"
        raise pytest.UsageError(f"{missing} is missing: nothing would be held against the specifications")


@pytest.fixture(autouse=True)
def _everything_is_described() -> Iterator[None]:
    yield
    if found := specs():
        undescribed, found.violations[:] = list(found.violations), []
        assert not undescribed, f"not as LINE and OpenAI describe it: {undescribed[:5]}"


@pytest.fixture(scope="session")
def specifications() -> Specs:
    found = specs()
    if found is None:
        pytest.skip("the specifications are not here")
    return found
