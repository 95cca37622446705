"""The programs built for GPUs, on a machine without one: --backend nccl ends all ranks with 69 and the driver's words,
and everything else works as ever.

    no_gpu_test.py BUILD_FOLDER
"""

import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from programs import run, settings, train  # noqa: E402

STEPS = {"trainer.init.max_steps": 3}


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for ranks in (0, 1, 2, 4):
            start = time.monotonic()
            done = run(ranks, "lab_train", "configs/mnist.toml", "-o", "--backend", "nccl",
                       *settings({**STEPS, "trainer.init.default_root_dir": root}), seconds=60)
            print(f"{ranks} ranks: exit {done.returncode} after {time.monotonic() - start:.1f} s: {done.stderr.strip()}", flush=True)
            assert done.returncode == 69, done.stderr
            assert "CUDA driver version is insufficient for CUDA runtime version" in done.stderr, done.stderr
            assert done.stderr.count("error: ") == 1, done.stderr
            assert not list(root.iterdir()), "a folder was left behind"
        train(2, "configs/mnist.toml", root, STEPS)
        print("trains on processors", flush=True)


if __name__ == "__main__":
    main()
