"""lab against PyTorch on the same GPU: throughput and memory, with the sides of tests/bench."""

import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys

from check import REPOSITORY, Failed
from interleaved import Comparison, Effort, Group, play

BENCH = REPOSITORY / "tests/bench"
GOAL = 0.98
STEADY = (0.95, 1.05)  # of the control; outside of it the machine was not fit to measure on
# Width and samples per step: on a GPU, and in a rehearsal.
NETWORKS = {"resnet": ((64, 128), (8, 4)), "transformer": ((256, 64), (16, 4))}
SETTINGS = ("tf32_convolutions", "tf32_products", "tries")
BATCHES = 100  # of an epoch


class Sides:
    """Starts groups for one network, all of which end with its with block, at once when that is left by an error."""

    def __init__(self, build, root, network, rehearse, python):
        self.build, self.root, self.network, self.python = build, root, network, python
        self.width, self.batch = NETWORKS[network][rehearse]
        self.rehearse = rehearse
        self._groups, self._stack = [], contextlib.ExitStack()
        self._data, self._config = root / f"{network}.h5", root / "gpu.toml"
        batches = 4 if rehearse else BATCHES
        subprocess.run([build / "gpu_bench", "data", network, str(batches * self.batch), self._data], check=True)
        self._config.write_text('experiment = "gpu"\n', encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for group in self._groups if kind else []:
            for pid in group.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._stack.close()

    def lab(self):
        values = {"config.network": self.network, "config.data": self._data, "config.width": self.width,
                  "config.batch_size": self.batch, "trainer.init.accelerator": "cpu" if self.rehearse else "gpu",
                  "trainer.init.default_root_dir": self.root / "runs"}
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        return self._group(f"lab, {self.network}", [self.build / "gpu_bench", self._config, *words])

    def peer(self, data_path, like):
        """like: a group of lab's, whose settings of torch it takes."""
        said = like.run(1)
        settings = [name for name in SETTINGS if said[name]]
        peer = self._group(f"PyTorch, {self.network}, {data_path}",
                           [self.python, BENCH / "gpu_peer.py", self.network, self.width, self.batch,
                            "cpu" if self.rehearse else "cuda", data_path, *settings])
        if (theirs := peer.run(1)["parameters"]) != said["parameters"]:
            raise Failed(f"{self.network} has {said['parameters']:.0f} parameters in gpu_bench, but {theirs:.0f} in gpu_peer.py")
        return peer

    def _group(self, name, command):
        group = Group(name, [command], 1)
        self._groups.append(group)
        return self._stack.enter_context(group)


def require_torch(python, rehearse):
    done = subprocess.run([python, "-c", "import torch; print(torch.__version__, torch.cuda.is_available())"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{python} has no PyTorch to measure against; scripts/setup --tests brings one, --python names another")
    version, usable = done.stdout.split()
    if usable != "True" and not rehearse:
        raise Failed(f"PyTorch {version} of {python} cannot use this GPU")
    return version


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def rate(group, sides):
    steps = 1 if sides.rehearse else 50
    return sides.batch * steps / group.run(steps)["seconds"]


def throughput(say, build, root, rehearse, python):
    say(f"PyTorch {require_torch(python, rehearse)}, AdamW (fused), by turns A-B-B-A: medians of the ratio of samples per "
        f"second, and their range. Goal: at least {GOAL} against pinned batches. Samples per second are of one moment.\n")
    say("| network | lab / PyTorch, pinned batches | lab / PyTorch, batches gathered as lab's | control, lab / lab | "
        "samples per second: lab, PyTorch pinned, gathered |\n| --- | --- | --- | --- | --- |")
    problems = []
    effort = Effort(1, 0, 1) if rehearse else Effort(7, 0.25, 2)
    for network in NETWORKS:
        with Sides(build, root, network, rehearse, python) as sides:
            lab, again = sides.lab(), sides.lab()
            peers = [sides.peer(data_path, lab) for data_path in ("pinned", "gathered")]
            rows = play([Comparison(peer.name, lab, peer, change=lambda ratio: 1 / ratio) for peer in peers],
                        (lab, again), effort)
            rates = ", ".join(f"{rate(group, sides):.0f}" for group in (lab, *peers))
            say(f"| {network} | {spread(rows[0].values)} | {spread(rows[1].values)} | {spread(rows[0].control)} | {rates} |")
        control, found = statistics.median(rows[0].control), statistics.median(rows[0].values)
        if not STEADY[0] <= control <= STEADY[1]:
            problems.append(f"{network}: the control is {control:.3f}, so nothing can be told; let nothing else run and repeat")
        elif found < GOAL:
            problems.append(f"{network}: {found:.3f} of PyTorch's throughput, and shall be at least {GOAL}")
    if problems and not rehearse:  # of one step each on processors nothing can be said
        raise Failed("\n".join(problems))


def used(group, rehearse):
    """MiB: of the GPU by all processes; in a rehearsal the most that the group's processes had in memory."""
    if rehearse:
        status = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in (group.pids if group else [])]
        return sum(int(line.split()[1]) for text in status for line in text.splitlines() if line[:6] == "VmHWM:") / 1024
    done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"],
                          capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory(say, build, root, rehearse, python):
    """torch's allocators give nothing back while a process lives: what it has after some steps is its peak."""
    require_torch(python, rehearse)
    say("MiB of the GPU's memory that a process adds (nvidia-smi), with its CUDA context.\n")
    say("| network | lab | PyTorch | ratio | of PyTorch's, tensors |\n| --- | --- | --- | --- | --- |")
    steps = 1 if rehearse else 50
    for network in NETWORKS:
        with Sides(build, root, network, rehearse, python) as sides:
            before = used(None, rehearse)
            lab = sides.lab()
            lab.run(steps)
            ours = used(lab, rehearse) - before
            peer = sides.peer("pinned", lab)
            before = used(lab, rehearse) if not rehearse else 0
            tensors = peer.run(steps)["tensor_bytes"] / 2**20
            theirs = used(peer, rehearse) - before
            say(f"| {network} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} | {tensors:.0f} |")
