"""The number of ranks is a speed setting: equal bits in canonical numerics, equal to rounding in ordinary ones.

    rank_count_test.py BUILD_FOLDER
"""

import csv
import pathlib
import tempfile

import torch
from programs import run, sha256, train
from safetensors.torch import load_file

CANONICAL = {
    "cnn with dropout and clipping": (
        "configs/mnist.toml",
        {"trainer.init.max_epochs": 2, "config.dropout": 0.25, "trainer.init.gradient_clip_val": 0.5},
    ),
    "cnn with accumulation, dropout and clipping": (
        "configs/mnist.toml",
        {"trainer.init.max_steps": 20, "config.dropout": 0.25, "trainer.init.gradient_clip_val": 0.5,
         "trainer.init.accumulate_grad_batches": 3},
    ),
    "cnn, uneven shards": ("configs/mnist.toml", {"trainer.init.max_steps": 30, "config.batch_size": 101}),
    "cnn, batch smaller than shards": ("configs/mnist.toml", {"trainer.init.max_steps": 20, "config.batch_size": 5}),
    "toy with BatchNorm": ("configs/mnist_toy.toml", {"trainer.init.max_epochs": 3, "config.batch_size": 500}),
}


def canonical(root):
    for name, (config, values) in CANONICAL.items():
        hashes = {}
        for ranks, strategy in ((1, "ddp"), (2, "ddp"), (3, "ddp"), (4, "zero1"), (8, "ddp")):
            folder = train(ranks, config, root, {**values, "trainer.init.strategy": strategy})
            hashes.setdefault(sha256(folder / "checkpoints/last.safetensors"), []).append((ranks, strategy))
        print(f"canonical, {name}: {hashes}", flush=True)
        assert len(hashes) == 1, f"{name}: weights differ between rank counts or strategies"


def losses(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == "loss/train_step"]


def ordinary(root):
    values = {"trainer.init.numerics": "ordinary", "trainer.init.max_steps": 50, "trainer.init.log_every_n_steps": 1}
    curves = {ranks: losses(train(ranks, "configs/mnist.toml", root, values)) for ranks in (1, 2, 3, 4, 8)}
    for ranks, curve in curves.items():
        assert len(curve) == 50, len(curve)
        distance = max(abs(a - b) for a, b in zip(curve, curves[1]))
        print(f"ordinary, 50 steps, {ranks} ranks: {distance:.1e} from one rank", flush=True)
        assert distance <= 1e-5


def ordinary_in_64_bits(root):
    values = {"trainer.init.numerics": "ordinary", "trainer.init.max_epochs": 4, "trainer.init.precision": "64-true",
              "trainer.init.log_every_n_steps": 1, "config.train_samples": 2000}
    runs = {ranks: train(ranks, "configs/mnist.toml", root, values) for ranks in (1, 2, 3, 4, 8)}
    weights = {ranks: load_file(folder / "checkpoints/last.safetensors") for ranks, folder in runs.items()}
    for ranks, folder in runs.items():
        curve = max(abs(a - b) for a, b in zip(losses(folder), losses(runs[1])))
        distance = max(float((weights[ranks][k] - weights[1][k]).abs().max()) for k in weights[1] if not k.startswith("lab."))
        print(f"ordinary, 64 bits, whole run, {ranks} ranks: losses {curve:.1e}, weights {distance:.1e} from one rank", flush=True)
        assert curve <= 1e-9 and distance <= 1e-9


def predictions(root):
    weights = train(2, "configs/mnist.toml", root, {"trainer.init.max_epochs": 2}) / "checkpoints/best.safetensors"
    files = {}
    for ranks in (1, 2, 3, 4, 8):
        out = root / f"results-{ranks}.csv"
        done = run(ranks, "lab_infer", "configs/mnist.toml", "-o", weights, "data/mnist-test.h5", out)
        assert done.returncode == 0, done.stderr
        files.setdefault(out.read_bytes(), []).append(ranks)
        last = done.stdout.strip().splitlines()[-1]
        assert last.startswith("accuracy 0.") and last.endswith(" of 1000)"), last
    assert len(files) == 1, "predictions differ between rank counts"
    lines = next(iter(files)).decode().splitlines()
    assert lines[0] == "index,prediction"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1000))
    assert {line.split(",")[1] for line in lines[1:]} <= {str(digit) for digit in range(10)}
    print(f"predictions: the same bytes on 1, 2, 3, 4 and 8 ranks; {last}", flush=True)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        canonical(root)
        ordinary(root)
        ordinary_in_64_bits(root)
        predictions(root)


if __name__ == "__main__":
    main()
