"""Datasets that are made of others, in whole runs: the same bits on any number of ranks, and clear ends.

    datasets_test.py BUILD_FOLDER
"""

import csv
import pathlib
import tempfile

import h5py
import numpy as np
from programs import run, settings, sha256

CONFIG = """
experiment = "sets"
[trainer.init]
max_epochs = 3
numerics = "canonical"
[config]
first = "first.h5"
second = "second.h5"
"""


def write(path, count, seed):
    generator = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file["images"] = generator.integers(0, 256, (count, 4, 4)).astype("u1")
        file["labels"] = generator.integers(0, 10, count).astype("u1")
        file["writers"] = np.array([f"w{number}" for number in generator.integers(0, 30, count)], dtype="S4")


def train(root, ranks, values=(), code=0, words=()):
    """Trains in `root`; returns the run's folder."""
    keys = settings({"trainer.init.default_root_dir": "runs", **dict(values)})
    done = run(ranks, "datasets_tool", "sets.toml", "-o", *keys, cwd=root)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    return root / done.stdout.strip().splitlines()[-1].split("  ")[0] if code == 0 else None


def measured(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [(row["epoch"], row["tag"], row["value"]) for row in csv.DictReader(file) if row["tag"].endswith("/validate")]


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "sets.toml").write_text(CONFIG, encoding="utf-8")
        write(root / "first.h5", 700, 1)
        write(root / "second.h5", 300, 2)
        folders = {ranks: train(root, ranks) for ranks in (1, 2, 3, 4)}
        hashes = {ranks: sha256(run / "checkpoints/last.safetensors") for ranks, run in folders.items()}
        assert len(set(hashes.values())) == 1, hashes
        assert len(measured(folders[1])) >= 6
        for ranks in (2, 3, 4):
            assert measured(folders[ranks]) == measured(folders[1]), ranks
        print("the same weights and measures on", *hashes, "ranks", flush=True)

        train(root, 3, {"config.disagree": "true"}, 76, ["rank 1", "training set"])
        train(root, 2, {"config.picked": 700}, 78, ["sample 700", "first.h5", "the last one is 699"])
        train(root, 2, {"config.second": "third.h5"}, 66, ["third.h5"])
        (root / "third.h5").write_bytes((root / "second.h5").read_bytes()[:5000])
        train(root, 2, {"config.second": "third.h5"}, 65, ["third.h5"])
        with h5py.File(root / "fourth.h5", "w") as file:
            file["images"] = np.zeros((5, 4, 4), "u1")
            file["labels"] = np.zeros(5, "u1")
            file["writers"] = ["a"] * 5  # of variable length
        train(root, 2, {"config.second": "fourth.h5"}, 65, ["'writers'", "fourth.h5", "dtype=\"S20\""])


main()
