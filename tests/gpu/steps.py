"""The steps of check.py. Each writes lines of Markdown, and raises Failed for what is not as it shall be."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from check import REPOSITORY, Failed

sys.path.insert(0, str(REPOSITORY / "tests/system"))
sys.path.insert(0, str(REPOSITORY / "tests/bench"))

import programs  # noqa: E402
import speed  # noqa: E402
from weights import distance  # noqa: E402

GOLDEN = REPOSITORY / "tests/system/nccl_calls.txt"
CONFIG = REPOSITORY / "configs/mnist.toml"
TARGETS = ["lab_train", "lab_data", "cuda_tests", "gpu_bench", "gpu_recorder"]
SHARED_GPU_SINCE = 23000  # NCCL 2.30: several ranks may use one GPU
SHARED_GPU = {"NCCL_MULTI_RANK_GPU_ENABLE": "1", "NCCL_MAX_CTAS": "4", "NCCL_NVLS_ENABLE": "0"}
# What holds the host until the GPU has done something. Waiting for an event of an earlier step is not among them: the
# GPU goes on meanwhile.
HOLDS = ["cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy", "pageable", "cudaFree"]
MOST_HOLDS = 2  # of a log interval


def output(command, environment=None):
    """What it printed; Failed when it fails. All that it started is ended with it."""
    process = subprocess.Popen(list(map(str, command)), env={**programs.ENVIRONMENT, **(environment or {})}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, cwd=REPOSITORY)
    try:
        said, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {process.returncode}\n{said[-3000:]}")
    return said


class Steps:
    def __init__(self, root, build, to_build, rehearse, python):
        self.root, self.build_folder, self.to_build = root, build, to_build
        self.rehearse, self.python = rehearse, python
        self.accelerator = "cpu" if rehearse else "gpu"

    def machine(self, say):
        if self.rehearse:
            say("- GPU: none is used")
        else:
            fields = "name,driver_version,memory.total,pci.bus_id"
            say(f"- GPU: {output(['nvidia-smi', f'--query-gpu={fields}', '--format=csv,noheader']).strip()}")
        say(f"- processor: {os.cpu_count()} cores")
        try:
            commit = output(["git", "rev-parse", "HEAD"]).strip()
            changed = output(["git", "status", "--porcelain", "--untracked-files=no"]).strip()
            say(f"- commit: {commit}{', with changes' if changed else ''}")
        except (Failed, OSError):
            say("- commit: unknown, this is no git repository")

    def build(self, say):
        if self.to_build:
            start = time.monotonic()
            output(["cmake", "--preset", "cuda"])
            output(["cmake", "--build", "--preset", "cuda", "--target", *TARGETS])
            say(f"- preset cuda, {', '.join(TARGETS)}: {time.monotonic() - start:.0f} s")
        needed = ["lab_train", "lab_data", "gpu_bench", "libgpu_recorder.so"]
        missing = [name for name in needed if not (self.build_folder / name).exists()]
        for name in ("CMAKE_BUILD_TYPE", "CMAKE_CXX_COMPILER", "LAB_CUDA"):
            say(f"- {name}: {self._cached(name) or 'not set'}")
        for name, version in (("CUDA runtime", self._version("LabCuda_RUNTIME", "cudaRuntimeGetVersion")),
                              ("NCCL", self._nccl())):
            say(f"- {name}: {version or 'not in this build'}")
        if missing:
            raise Failed(f"{self.build_folder} has no {', '.join(missing)}; build the targets {' '.join(TARGETS)}")
        if not self.rehearse and not self._nccl():
            raise Failed(f"{self.build_folder} was built without CUDA; take one of the preset cuda")

    def conformance(self, say):
        program, words = self.build_folder / "cuda_tests", []
        if self.rehearse and not program.exists():
            program, words = self.build_folder / "mpi_tests", ["--gtest_filter=*Conformance*"]
        say(f"- 1 rank: {self._tested(1, [program, *words])}")
        if self.rehearse or self._shares_gpu():
            say(f"- 2 ranks on one GPU: {self._tested(2, [program, *words], SHARED_GPU)}")
        else:
            say(f"- 2 ranks: not run, as NCCL {self._nccl()} refuses two ranks on one GPU; 2.30 and later can do it")

    def calls(self, say):
        """The launches of five steps, and who waits for them, are those of the stand-in for NCCL."""
        ranks = 2 if self.rehearse or self._shares_gpu() else 1
        log = self.root / "calls"
        program = "lab_train"
        recorder = [f"LD_PRELOAD={self.build_folder / 'libgpu_recorder.so'}", f"LAB_CALLS_LOG={log}"]
        if self.rehearse:
            program, recorder = "lab_train_on_stand_in", [f"NCCL_STAND_IN_LOG={log}"]
        values = {"trainer.init.max_steps": 5, "trainer.init.numerics": "ordinary", "trainer.init.bucket_cap_mb": 0.1}
        shared = [f"{name}={value}" for name, value in SHARED_GPU.items()] if ranks > 1 else []
        self._train(values, ranks=ranks, program=program, variables=[*recorder, *shared], words=["--backend", "nccl"])
        wanted = GOLDEN.read_text()
        for rank in range(ranks):
            path = log.with_name(f"calls.{rank}")
            found = path.read_text() if path.exists() else ""
            if found != wanted:
                raise Failed(f"rank {rank} of {ranks} made other calls than {GOLDEN.name} has:\n{found[:3000] or 'none'}")
        say(f"- {ranks} rank{'s' * (ranks > 1)}, 5 steps: the {len(wanted.splitlines())} calls of {GOLDEN.name}")

    def equality(self, say):
        """The same weights as on processors, to rounding."""
        problems = []
        for precision, bound in (("64-true", 1e-9), ("32-true", 1e-3)):
            values = {"trainer.init.max_steps": 20, "trainer.init.precision": precision,
                      "trainer.init.numerics": "ordinary", "trainer.init.memory_format": "contiguous"}
            files = [self._train({**values, "trainer.init.accelerator": accelerator}, variables=["NVIDIA_TF32_OVERRIDE=0"])
                     / "checkpoints/last.safetensors" for accelerator in ("cpu", self.accelerator, self.accelerator)]
            apart = distance(files[0], files[1])
            again = distance(files[1], files[2])
            say(f"- {precision}, 20 steps: relative L2 distance of the weights {apart:.1e} (at most {bound:.0e}); "
                f"a second run has {'the same bits' if again == 0 else f'other bits, {again:.1e} apart'}")
            if not apart <= bound:  # NaN too
                problems.append(f"{precision}: the weights are {apart:.1e} apart, and shall be at most {bound:.0e}")
        if problems:
            raise Failed("\n".join(problems))

    def synchronisations(self, say):
        """How often the host waits for the GPU in a log interval: of a long and a short run, what the long one has more."""
        short, long, interval = 50, 250, 25
        counts = [self._counted(steps, interval) for steps in (short, long)]
        intervals = (long - short) / interval
        more = {name: (counts[1][name] - counts[0][name]) / intervals for name in counts[0]}
        held = sum(more[name] for name in HOLDS)
        say("| per log interval | times |\n| --- | --- |")
        for name, times in more.items():
            say(f"| {name} | {times:.2f} |")
        say(f"\n{held:.2f} waits of {interval} steps (at most {MOST_HOLDS}); cudaEventSynchronize is not among them, as a "
            "wait for an earlier step does not hold the GPU. The shorter run has "
            f"{sum(counts[0][name] for name in HOLDS)} in all.")
        if held > MOST_HOLDS:
            raise Failed(f"the host waits {held:.2f} times for the GPU in a log interval, and shall {MOST_HOLDS} times")

    def throughput(self, say):
        speed.throughput(say, self.build_folder, self.root, self.rehearse, self.python)

    def memory(self, say):
        speed.memory(say, self.build_folder, self.root, self.rehearse, self.python)

    def _train(self, values, ranks=0, program="lab_train", variables=(), words=()):
        """The folder of a run that has ended well."""
        values = {"trainer.init.default_root_dir": self.root / "runs", "trainer.init.enable_progress_bar": "false",
                  "config.data": REPOSITORY / "data/mnist-train.h5", **values}
        done = programs.run(ranks, "/usr/bin/env", *variables, self.build_folder / program, CONFIG, "-o", *words,
                            *programs.settings(values))
        if done.returncode != 0:
            raise Failed(f"{program} on {max(ranks, 1)} ranks: exit {done.returncode}\n{done.stderr[-3000:]}")
        return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])

    def _counted(self, steps, interval):
        log = self.root / f"counts-{steps}"
        values = {"trainer.init.max_steps": steps, "trainer.init.log_every_n_steps": interval, "config.batch_size": 16,
                  "trainer.init.numerics": "ordinary", "trainer.init.accelerator": self.accelerator}
        self._train(values, variables=[f"LD_PRELOAD={self.build_folder / 'libgpu_recorder.so'}", f"LAB_CALLS_LOG={log}"])
        path = log.with_name(f"{log.name}.0.sync")
        if not path.exists():
            raise Failed(f"the recorder has written nothing: no {path.name}")
        return {name: int(count) for name, count in map(str.split, path.read_text().splitlines())}

    def _tested(self, ranks, command, environment=None):
        said = output(["mpirun", "-np", ranks, "--oversubscribe", "--bind-to", "none", *command, "--gtest_color=no"], environment)
        counts = {word: int(count) for word, count in re.findall(r"\[\s+(PASSED|SKIPPED)\s+\] (\d+) test", said)}
        # Where tests are skipped, gtest counts those that passed apart from them.
        if not counts.get("PASSED"):
            raise Failed(f"no test has run with {command[0].name}:\n{said[-2000:]}")
        skipped = f", {counts['SKIPPED']} skipped" if counts.get("SKIPPED") else ""
        return f"{counts['PASSED']} tests of {command[0].name} passed{skipped}"

    def _cached(self, name):
        found = re.search(rf"^{name}:\w+=(.+)$", (self.build_folder / "CMakeCache.txt").read_text(), re.M)
        return found.group(1) if found else None

    def _version(self, library, function):
        """As a number of the library that the build is linked with; 0 without one."""
        path = self._cached(library)
        if not path or path.endswith("NOTFOUND"):
            return 0
        number = ctypes.c_int()
        if getattr(ctypes.CDLL(path), function)(ctypes.byref(number)) != 0:
            raise Failed(f"{function} of {path} fails")
        return number.value

    def _nccl(self):
        number = self._version("LabCuda_NCCL", "ncclGetVersion")
        return number and f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    def _shares_gpu(self):
        return self._version("LabCuda_NCCL", "ncclGetVersion") >= SHARED_GPU_SINCE
