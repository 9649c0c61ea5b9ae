"""The functions' archives as Terraform builds them: the file list is Terraform's own evaluation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

TREE = Path(__file__).parents[2]
DEFINITION = TREE / "terraform" / "archive_files.tf"


def terraform() -> str | None:
    return shutil.which("terraform")


def files(work: Path) -> dict[str, dict[str, Path]]:
    """By function: path in the archive -> file in the tree. `work` is an empty folder."""
    (work / "terraform").mkdir()
    shutil.copy(DEFINITION, work / "terraform")
    for part in ("core", "functions"):
        (work / part).symlink_to(TREE / part)
    done = subprocess.run(
        ["terraform", f"-chdir={work / 'terraform'}", "console"],
        input="jsonencode(local.archive_files)",
        env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    evaluated = json.loads(json.loads(done.stdout))
    return {name: {k: TREE / v for k, v in listed.items()} for name, listed in evaluated.items()}


def build(listed: dict[str, Path], target: Path) -> Path:
    """A zip with the given files, in the order in which Terraform's map has them."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(listed):
            archive.writestr(zipfile.ZipInfo(name), listed[name].read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def install(archive: Path, folder: Path) -> Path:
    """Unpack into `folder`, and install what its requirements.txt pins, and nothing else, beside it.

    Returns the bin folder of the new environment.
    """
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    home = folder.with_name(f"{folder.name}-venv")
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(folder / "requirements.txt")], check=True)
    return home / "bin"


def start(function: str, folder: Path, binaries: Path, port: int) -> subprocess.Popen[str]:
    """The function as Google's buildpack starts it: from its own folder, with its own environment."""
    return subprocess.Popen(
        [binaries / "functions-framework", f"--target={function}", f"--port={port}", "--host=127.0.0.1"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def environment(folder: Path) -> dict[str, str]:
    """What a function must be given to start; nothing that it leads to exists."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "GOOGLE_CLOUD_PROJECT": "archive-test",
        "DOCUMENT_STORE": f"sqlite:{folder.parent / 'documents.sqlite'}",
        "SECRET_STORE": f"file:{folder.parent / 'secrets.json'}",
        "REDIS_URL": "redis://127.0.0.1:1",
        "TASKS_QUEUE": "projects/archive-test/locations/here/queues/turns",
        "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1",
        "TURN_URL": "http://127.0.0.1:1",
        "OPENAI_API_KEY": "unused",
    }
