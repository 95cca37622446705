"""Ranks of two nodes, two on each: the bits of one rank in canonical numerics, and the same ones from run to run.

    two_nodes_test.py BUILD_FOLDER
"""

import json
import pathlib
import sys
import tempfile

from programs import BUILD, settings, sha256, train
from two_nodes import reason_against, two_nodes

RATE = "400mbit"
SHORT = {"trainer.init.max_steps": 30, "config.dropout": 0.25, "trainer.init.gradient_clip_val": 0.5}
CANONICAL = {
    "cnn": {**SHORT, "trainer.init.numerics": "canonical"},
    "cnn with accumulation": {**SHORT, "trainer.init.numerics": "canonical", "trainer.init.accumulate_grad_batches": 3},
}


def weights(run, root, values):
    """The hash of the checkpoint that four ranks on both nodes leave."""
    before = set(root.iterdir())
    done = run(2, BUILD / "lab_train", "configs/mnist.toml", "-o",
               *settings({"trainer.init.default_root_dir": root, **values}))
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "backend shared memory and mpi" in done.stderr + done.stdout, done.stderr
    [folder] = set(root.iterdir()) - before
    assert json.loads((folder / "run.json").read_text())["status"] == "completed"
    return sha256(folder / "checkpoints/last.safetensors")


def main():
    if reason := reason_against():
        print(reason, file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder, two_nodes(RATE) as run:
        root = pathlib.Path(folder)
        for name, values in CANONICAL.items():
            alone = sha256(train(1, "configs/mnist.toml", root, values) / "checkpoints/last.safetensors")
            for strategy in ("ddp", "zero1"):
                assert weights(run, root, {**values, "trainer.init.strategy": strategy}) == alone, (name, strategy)
            print(f"canonical, {name}: two nodes have the bits of one rank, with zero1 too", flush=True)
        ordinary = [weights(run, root, {**SHORT, "trainer.init.strategy": strategy})
                    for strategy in ("ddp", "ddp", "zero1")]
        assert len(set(ordinary)) == 1, ordinary
        print("ordinary: the same bits in each run, with zero1 too", flush=True)


if __name__ == "__main__":
    main()
