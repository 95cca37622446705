"""What a save costs the step, against a synchronous torch.save of the same state to the same disk.

    save_cost.py BUILD_FOLDER [--parameters N] [--folder F] [--times T]

Interleaved runs; saves 2.5 s apart, so that the disk is done with one before the next comes; medians with the least and the most. torch.save is given its best: no read back, and once without fsync too.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch


def torch_save(folder, parameters, sync):
    folder.mkdir()
    os.sync()  # what others have left to write is not this one's
    state = {name: torch.rand(parameters) for name in ("weight", "exp_avg", "exp_avg_sq")}
    seconds = []
    for i in range(4):
        start = time.perf_counter()
        with open(folder / f"{i % 2}.pt", "wb") as file:
            torch.save(state, file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def lab_save(bench, folder, parameters):
    folder.mkdir()
    os.sync()
    done = subprocess.run([bench, folder, str(parameters), "40", "0.25"], capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())


def told(name, values):
    print(f"{name:48} {statistics.median(values):.3f}  ({min(values):.3f} to {max(values):.3f})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept, longer, control = [], [], []
    for _ in range(arguments.times):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = pathlib.Path(name)
            plain = torch_save(folder / "plain", arguments.parameters, False)
            synced = torch_save(folder / "synced", arguments.parameters, True)
            again = torch_save(folder / "again", arguments.parameters, False)
            in_step, in_loop = lab_save(arguments.build / "save_bench", folder / "lab", arguments.parameters)
            kept.append((in_step / plain, in_step / synced))
            longer.append((in_loop / plain, in_loop / synced))
            control.append(again / plain)
    told("time in save() / torch.save", [a for a, _ in kept])
    told("time in save() / torch.save with fsync", [b for _, b in kept])
    told("loop longer by / torch.save", [a for a, _ in longer])
    told("loop longer by / torch.save with fsync", [b for _, b in longer])
    told("torch.save / torch.save (A/A)", control)


if __name__ == "__main__":
    main()
