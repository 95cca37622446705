"""lab_train --check: what a run would be, and everything that is wrong with it, found at once and before it starts.

    check_test.py BUILD_FOLDER
"""

import pathlib
import tempfile
import time

import h5py
import numpy

from programs import run, settings

MNIST = "configs/mnist.toml"

# Twenty at once; beside each what is said of it.
CONFIG = """
experiment = "mnist"
surprise = 1                                # unknown key "surprise"
[task]
task_name = "mine"                          # lab does not take task.task_name
task_type = "trainings"                     # did you mean "training"
[checkpoint]
checkpoint_nme = "best"                     # did you mean "checkpoint_name"
[trainer]
inti = 1                                    # did you mean "init"
[trainer.init]
max_epochs = -5                             # max_epochs = -5 is not at least -1
max_time = "an hour"                        # max_time = "an hour" is not days, hours, minutes and seconds
precision = "bf16"                          # precision = "bf16" is not one of
accelerator = "tpu"                         # accelerator = "tpu" is not one of
logger = true                               # lab does not take trainer.init.logger
num_nodes = 3                               # devices = 2 on num_nodes = 3 are 6 ranks, but 1 was started
devices = 2
numerics = "canonical"
gradient_compression = "bf16"               # is not for canonical numerics: gradients are rounded once per node
sync_batchnorm = true                       # sync_batchnorm = true is not for canonical numerics
limit_val_batches = 0.001                   # limit_val_batches = 0.001 of 1 batch is less than one
default_root_dir = "@ROOT@/data.h5/runs"    # run folders can't be made in
[config]
data = "@ROOT@/data.h5"
train_samples = 60
batch_size = 8.5                            # config.batch_size wants an integer
learning_rate = -1                          # learning_rate = -1 is not above 0
learning_rte = 1                            # did you mean "learning_rate"
monitor = "loss/val"                        # the best checkpoint is to be chosen by "loss/val"
"""
IN_DATA = ["class", "100"]  # a label that is none of the ten


def written(root, **changes):
    """A file of 100 digits."""
    images = numpy.zeros((100, 28, 28), numpy.uint8)
    labels = numpy.arange(100, dtype=numpy.uint8) % 10
    labels[0] = changes.get("first_label", 0)
    with h5py.File(root / "data.h5", "w") as file:
        file["images"], file["labels"] = images, labels


def twenty_mistakes(root):
    written(root, first_label=100)
    config = root / "wrong.toml"
    config.write_text(CONFIG.replace("@ROOT@", str(root)))
    words = [line.split("# ")[1].strip() for line in CONFIG.splitlines() if "# " in line]
    assert len(words) + 1 == 20, len(words)
    done = run(0, "lab_train", config, "--check", seconds=60)
    said = done.stdout + done.stderr
    missing = [word for word in [*words, *IN_DATA] if word not in said]
    assert not missing, f"not found: {missing}\n{said}"
    assert done.returncode == 78, said
    assert not list(root.glob("**/run.json"))
    print(said, flush=True)


def nothing_wrong(root):
    runs = root / "runs"
    for ranks in (0, 1, 3):
        start = time.monotonic()
        done = run(ranks, "lab_train", MNIST, "--check", *settings({"trainer.init.default_root_dir": runs}))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Nothing wrong was found.") == 1, done.stdout
        assert "5500 samples in 43 steps, batches of 128, the last of 124" in done.stdout, done.stdout
        print(f"{ranks} ranks: nothing wrong, after {time.monotonic() - start:.1f} s", flush=True)
    print(done.stdout, flush=True)
    assert not runs.exists(), "something was left behind"


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        nothing_wrong(root)
        twenty_mistakes(root)


if __name__ == "__main__":
    main()
