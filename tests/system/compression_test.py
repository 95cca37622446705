"""Gradients as bf16 between nodes: the losses stay near those without, the bits are the same from run to run, also of a run that
was stopped and continued, and one node rounds nothing. `--backend mpi` takes each rank for a node.

    compression_test.py BUILD_FOLDER
"""

import csv
import pathlib
import statistics
import tempfile

import torch
from programs import run, settings, sha256
from safetensors.torch import load_file

STEPS = 50
COMMON = {"trainer.init.numerics": "ordinary", "trainer.init.max_steps": STEPS, "trainer.init.log_every_n_steps": 1,
          "config.schedule": "multi_step"}
NEAR = 0.02  # mean distance of losses that fall from 2.3 to 0.7


def trained(ranks, root, values, *words):
    """The run's folder."""
    done = run(ranks, "lab_train", "configs/mnist.toml", "-o", *words,
               *settings({**COMMON, "trainer.init.default_root_dir": root, **values}))
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])


def losses(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == "loss/train_step"]


def weights(folder):
    return sha256(folder / "checkpoints/last.safetensors")


def main():
    bf16 = {"trainer.init.gradient_compression": "bf16"}
    by_mpi = ("--backend", "mpi")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for ranks in (2, 3):
            plain, rounded = trained(ranks, root, {}, *by_mpi), trained(ranks, root, bf16, *by_mpi)
            curves = losses(plain), losses(rounded)
            assert len(curves[0]) == len(curves[1]) == STEPS, curves
            apart = [abs(a - b) for a, b in zip(*curves)]
            print(f"{ranks} ranks: losses fall to {curves[0][-1]:.3f}; with bf16 they are {statistics.mean(apart):.1e} from that, "
                  f"{max(apart):.1e} at most", flush=True)
            assert 0 < statistics.mean(apart) <= NEAR
            for strategy in ("ddp", "zero1"):
                again = trained(ranks, root, {**bf16, "trainer.init.strategy": strategy}, *by_mpi)
                assert weights(again) == weights(rounded), f"{ranks} ranks, {strategy}: other bits in another run"
        part = trained(2, root, {**bf16, "trainer.init.max_steps": STEPS // 2}, *by_mpi)
        whole = trained(2, root, bf16, *by_mpi)
        continued = trained(2, root, bf16, *by_mpi, f"--resume={part}")
        # The part's last step was validated, which callbacks remember: their checkpoints differ in that, and the tensors don't.
        ours, theirs = (load_file(folder / "checkpoints/last.safetensors") for folder in (continued, whole))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours), "continued"
        print("the same bits in each run, with zero1 too, and of a run that was continued", flush=True)
        assert weights(trained(2, root, bf16)) == weights(trained(2, root, {}))
        print("on one node the bits are those without", flush=True)


if __name__ == "__main__":
    main()
