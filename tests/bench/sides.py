"""The sides that the benchmarks play against each other: how each is started."""

import contextlib
import os
import pathlib
import sys

from interleaved import Group

HERE = pathlib.Path(__file__).parent
DIGITS = HERE.parents[1] / "data" / "mnist-train.h5"
CONFIGS = HERE.parents[1] / "configs"
# What lab sets for its own process: no large tensor goes back to the kernel to be faulted in again.
SAME_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
PEER = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


class Sides:
    """Starts groups out of a build folder, which end with its with block. counted: their allocations are counted."""

    def __init__(self, build, folder, counted=False):
        self.build, self.folder = pathlib.Path(build).resolve(), pathlib.Path(folder)
        counter = self.build / "liballocation_count.so"
        self._environment = {"LD_PRELOAD": counter, "LAB_BENCH_ALLOCATIONS": self.folder} if counted else {}
        self._stack = contextlib.ExitStack()
        self._step_config = self.folder / "step.toml"
        self._step_config.write_text('experiment = "step"\n', encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _group(self, name, commands, ranks, environment):
        return self._stack.enter_context(Group(name, commands, ranks, {**self._environment, **environment}))

    def _lab(self, name, ranks, *command):
        bound = "core" if ranks <= len(os.sched_getaffinity(0)) else "none"
        launched = ["mpirun", "-np", ranks, "--oversubscribe", "--bind-to", bound, *command]
        return self._group(name, [launched], ranks, {})

    def allocations(self, pid):
        """Of this process so far."""
        return int.from_bytes((self.folder / str(pid)).read_bytes(), sys.byteorder)

    def steps(self, network, global_batch, ranks=2, numerics="ordinary", silent=False, memory_format="contiguous",
              precision="32-true", program="step_bench", accumulate=1):
        values = {"config.network": network, "config.data": DIGITS, "config.batch_size": global_batch,
                  "trainer.init.numerics": numerics, "trainer.init.memory_format": memory_format,
                  "trainer.init.precision": precision, "trainer.init.accumulate_grad_batches": accumulate}
        return self._lab(f"lab, {network}", ranks, self.build / program, *(["silent"] if silent else []),
                         self._step_config, *settings(values))

    def runs(self, network, global_batch, ranks=1, launched=True):
        """Steps of whole runs, with their records. Not launched: one rank as a user starts it, on all cores, of which one
        computes."""
        config = self.folder / "run.toml"
        config.write_text('experiment = "run"\n', encoding="utf-8")
        values = {"config.network": network, "config.data": DIGITS, "config.batch_size": global_batch,
                  "trainer.init.default_root_dir": self.folder / "runs", "trainer.init.hang_seconds": 0,
                  "trainer.init.enable_checkpointing": "false"}
        words = [self.build / "run_bench", config, "-o", *settings(values)]
        if launched:
            return self._lab(f"lab's run, {network}", ranks, *words)
        return self._group(f"lab's run, {network}", [[*words, *settings({"trainer.init.threads": 1})]], 1, {})

    def bare(self, network, batch):
        """A loop on libtorch in C++, with lab's settings of the allocator."""
        [command] = on_cores([self.build / "bare_bench", network, batch, DIGITS], 1)
        return self._group(f"bare libtorch, {network}", [command], 1, {**PEER, **SAME_ALLOCATOR})

    def means(self, network, weight, program):
        """A step's division of the gradients, by itself."""
        [command] = on_cores([self.build / program, network, weight], 1)
        return self._group(f"means of gradients, {network}", [command], 1, SAME_ALLOCATOR)

    def sums(self, size, ranks=2):
        return self._lab(f"lab, {size} bytes", ranks, self.build / "reduce_bench", size)

    def epochs(self, config, data, epochs, batch, ranks=2, values=()):
        values = {"config.data": data, "config.batch_size": batch, "trainer.init.max_epochs": epochs,
                  "trainer.init.default_root_dir": self.folder / "runs", "trainer.init.hang_seconds": 0, **dict(values)}
        return self._lab(f"lab, {config}", ranks, self.build / "epoch_bench", CONFIGS / config, "-o", *settings(values))

    def ddp(self, *words, ranks=2, allocator=None):
        """DistributedDataParallel over gloo, in Python."""
        command = [sys.executable, HERE / "ddp_gloo.py", *words]
        return self._group(f"DDP(gloo), {words}", on_cores(command, ranks), ranks, {**PEER, **(allocator or {})})

    def c10d(self, *words, ranks=2):
        """The same in C++, with lab's settings of the allocator; None where it was not built."""
        program = self.build / "c10d_bench"
        if not program.exists():
            return None
        return self._group(f"c10d::Reducer(gloo), {words}", on_cores([program, *words], ranks), ranks, PEER)

    def lightning(self, python, *words, allocator=None):
        command = [python, HERE / "lightning_epochs.py", *words, self.folder / "lightning"]
        return self._group(f"Lightning, {words}", [command], 2, {**PEER, **(allocator or {})})

    def lightning_steps(self, python, batch, ranks, allocator=None):
        """On one process bound to a core, as lab's is, or on two by DDP over gloo, on both cores."""
        command = [python, HERE / "lightning_steps.py", DIGITS, batch, ranks, self.folder / "lightning"]
        if ranks == 1:
            [command] = on_cores(command, 1)
        return self._group(f"Lightning, {ranks} ranks", [command], ranks, {**PEER, **(allocator or {})})


def on_cores(command, ranks):
    """The command for each rank, on a core of its own, as mpirun starts a few ranks."""
    cores = sorted(os.sched_getaffinity(0))
    return [["taskset", "-c", cores[rank % len(cores)], *command] for rank in range(ranks)]


def settings(values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
