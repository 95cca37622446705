"""Whole runs on a device of torch's that is a stand-in: the bits of processors, and a host that waits for nothing in a
step.

    device_test.py BUILD_FOLDER
"""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

from programs import BUILD, ENVIRONMENT, run, settings, sha256, train

TRAIN, INFER = "lab_train_on_stand_in", "lab_infer_on_stand_in"
MNIST, TOY = "configs/mnist.toml", "configs/mnist_toy.toml"
STEPS = {"trainer.init.max_steps": 6, "trainer.init.numerics": "ordinary"}

# Ranks, config, settings: where one thread of a processor computes the same.
RUNS = [
    (1, MNIST, {**STEPS, "config.dropout": 0.25}),
    (1, MNIST, {**STEPS, "trainer.init.precision": "64-true"}),
    (1, MNIST, {**STEPS, "trainer.init.accumulate_grad_batches": 3, "trainer.init.gradient_clip_val": 0.01,
                "trainer.init.gradient_clip_algorithm": "value"}),
    (1, TOY, {"trainer.init.max_epochs": 2}),
    (2, MNIST, {**STEPS, "trainer.init.gradient_clip_val": 0.5}),
    (2, MNIST, {**STEPS, "trainer.init.strategy": "zero1"}),
    (2, TOY, {**STEPS, "trainer.init.sync_batchnorm": "true", "config.batch_size": 500}),
]


def folder_of(done):
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])


def on_device(ranks, config, root, values, *words):
    done = run(ranks, TRAIN, config, "-o", *words, *settings({"trainer.init.default_root_dir": root, **values}))
    assert "of the stand-in" in done.stderr, done.stderr
    return done


def result(folder):
    """The weights, as a hash, and the points without their times."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    return sha256(folder / "checkpoints/last.safetensors"), [line.rsplit(",", 1)[0] for line in lines]


def same_bits(root):
    for ranks, config, values in RUNS:
        values = {**values, "trainer.init.threads": 1}
        here = train(ranks, config, root, values)
        there = folder_of(on_device(ranks, config, root, values))
        assert result(here) == result(there), f"{config} on {ranks} ranks with {values}"
        print(f"{config} on {ranks}: the bits of processors, with {values}", flush=True)
    weights = here / "checkpoints/last.safetensors"
    tables = []
    for program in ("lab_infer", INFER):
        done = run(2, program, TOY, "-o", weights, "data/mnist-test.h5")
        assert done.returncode == 0, done.stderr
        tables.append(pathlib.Path("results.csv").read_bytes())
        pathlib.Path("results.csv").unlink()
    assert tables[0] == tables[1], "other predictions"
    print("predictions: the same", flush=True)


def waits(root, steps):
    """How often the host waited for the device, by kind."""
    ENVIRONMENT["TORCH_STAND_IN_LOG"] = str(root / "waits")
    values = {**STEPS, "trainer.init.max_steps": steps, "trainer.init.gradient_clip_val": 0.5}
    folder_of(on_device(1, MNIST, root, values))
    del ENVIRONMENT["TORCH_STAND_IN_LOG"]
    return dict((kind, int(number)) for kind, number in
                re.findall(r"(\w+) (\d+)", (root / "waits.0").read_text()))


def no_hidden_waits(root):
    """Of more steps only the events are more: one for each, of the step before."""
    few, many = waits(root, 5), waits(root, 25)
    more = {kind: many[kind] - few[kind] for kind in many}
    assert more.pop("event") == 20, (few, many)
    assert not any(more.values()), f"{more} more waits in 20 steps"
    print(f"20 steps: 20 waits for the step before, no other ({many})", flush=True)


def non_finite(root):
    """A step that is not finite changes nothing, nor does the one behind it; the message is that of processors."""
    values = {**STEPS, "config.learning_rate": 1e30, "trainer.init.threads": 1}
    words = []
    for program in ("lab_train", TRAIN):
        done = run(2, program, MNIST, "-o", *settings({"trainer.init.default_root_dir": root, **values}))
        assert done.returncode == 65, done.stderr
        words.append([re.sub(r"^\S+ \S+ ", "", line) for line in done.stderr.splitlines() if "error: " in line])
    assert len(words[0]) == 1 and words[0] == words[1], words
    print("not finite:", words[0][0].strip(), flush=True)


def stop_and_go_on(root):
    """Stopped by a signal, gone on with: the weights of a run that was not."""
    values = {"trainer.init.max_steps": 400, "trainer.init.numerics": "canonical",
              "trainer.init.checkpoint_every_n_steps": 7, "config.dropout": 0.25}
    whole = folder_of(on_device(1, MNIST, root / "whole", values))
    words = [BUILD / TRAIN, MNIST, "-o", *settings({"trainer.init.default_root_dir": root / "stopped", **values})]
    job = subprocess.Popen(list(map(str, words)), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
    deadline = time.monotonic() + 60
    while not list(root.glob("stopped/*/checkpoints/epoch=*-step=*7.safetensors")):
        assert time.monotonic() < deadline and job.poll() is None, job.communicate()
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=60)
    assert job.returncode == 75, told
    folder = next((root / "stopped").iterdir())
    done = on_device(1, MNIST, root / "stopped", values, f"--resume={folder}")
    assert folder_of(done) == folder
    assert result(whole) == result(folder), "another result after a stop"
    print("stopped", re.search(r"after .* steps", told)[0], "and gone on with: the same weights", flush=True)


def main():
    if not (BUILD / TRAIN).exists():
        print(f"{TRAIN} was not built: NCCL's and CUDA's headers were not found", flush=True)
        os._exit(77)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        no_hidden_waits(root)
        non_finite(root)
        stop_and_go_on(root)
        same_bits(root)


if __name__ == "__main__":
    main()
