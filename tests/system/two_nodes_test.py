"""Ranks of two nodes, two on each: the bits of one rank in canonical numerics, and the same ones from run to run; with gradients as
bf16 between the nodes about half the bytes go over the link.

    two_nodes_test.py BUILD_FOLDER
"""

import json
import pathlib
import sys
import tempfile

from programs import BUILD, settings, sha256, train
from two_nodes import bytes_sent, reason_against, two_nodes

RATE = "400mbit"
MOST_OF_BYTES = 0.6  # gradients take half, but they are not all that is sent
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


def ordinary(run, root, values=()):
    """The hash that three runs leave, and the most bytes that one of them sent."""
    hashes, sent = set(), []
    for strategy in ("ddp", "ddp", "zero1"):
        before = bytes_sent()
        hashes.add(weights(run, root, {**SHORT, "trainer.init.numerics": "ordinary", "trainer.init.strategy": strategy,
                                       **dict(values)}))
        if strategy == "ddp":
            sent.append(bytes_sent() - before)
    assert len(hashes) == 1, hashes
    return hashes.pop(), max(sent)


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
        plain, plain_bytes = ordinary(run, root)
        print("ordinary: the same bits in each run, with zero1 too", flush=True)
        rounded, rounded_bytes = ordinary(run, root, {"trainer.init.gradient_compression": "bf16"})
        assert rounded != plain, "nothing was rounded"
        print(f"bf16: the same bits in each run, with zero1 too; {rounded_bytes} bytes over the link instead of {plain_bytes}, "
              f"{rounded_bytes / plain_bytes:.2f} times as many", flush=True)
        assert rounded_bytes <= MOST_OF_BYTES * plain_bytes


if __name__ == "__main__":
    main()
