"""Starts the programs as a user does."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

BUILD = pathlib.Path(sys.argv[1]).resolve()
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def run(ranks, program, *words, seconds=300, cwd=None, environment=None):
    """The finished process. ranks 0: without mpirun. environment: what is added to it."""
    start = ["mpirun", "-np", str(ranks), "--oversubscribe"] if ranks else []
    command = [*start, BUILD / program, *map(str, words)]
    return subprocess.run(command, env={**ENVIRONMENT, **(environment or {})}, capture_output=True, text=True, timeout=seconds, cwd=cwd)


def settings(values):
    words = []
    for key, value in values.items():
        words += ["--set", f"{key}={value}"]
    return words


def train(ranks, config, root, values=()):
    """Trains and returns the run's folder."""
    done = run(ranks, "lab_train", config, "-o", *settings({"trainer.init.default_root_dir": root, **dict(values)}))
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    folder = pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])
    status = json.loads((folder / "run.json").read_text())
    assert status["status"] == "completed" and status["exit_code"] == 0, status
    return folder


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
