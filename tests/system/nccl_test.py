"""Whole runs with NCCL's backend, on a stand-in for the library: the bits of MPI's, and what becomes of faults.

    nccl_test.py BUILD_FOLDER
"""

import concurrent.futures
import os
import pathlib
import tempfile
import time

import programs
from programs import BUILD, run, settings, sha256

PROGRAM = "lab_train_on_stand_in"
GOLDEN = pathlib.Path(__file__).with_name("nccl_calls.txt")
STEPS = {"trainer.init.max_steps": 12, "trainer.init.hang_seconds": 5}


def stand_in(ranks, config, root, values, fault=None, seconds=120):
    """The finished process, and how long it took."""
    start = time.monotonic()
    done = run(ranks, PROGRAM, config, "-o", "--backend", "nccl",
               *settings({"trainer.init.default_root_dir": root, **values}), seconds=seconds,
               environment={"NCCL_STAND_IN_FAULT": fault} if fault else None)
    return done, time.monotonic() - start


def weights(done, backend):
    """What a finished run has saved last, as a hash."""
    assert done.returncode == 0 and backend in done.stderr, done.stderr
    return sha256(pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0]) / "checkpoints/last.safetensors")


def equal_bits(root):
    """Canonical numerics are the same over NCCL and over MPI, at any number of ranks."""
    for config, values in (("configs/mnist.toml", {**STEPS, "config.dropout": 0.25}),
                           ("configs/mnist_toy.toml", {**STEPS, "config.batch_size": 500}),
                           ("configs/mnist.toml", {**STEPS, "trainer.init.strategy": "zero1",
                                                   "trainer.init.accumulate_grad_batches": 2})):
        values = {**values, "trainer.init.numerics": "canonical"}
        by_mpi = run(2, "lab_train", config, "-o", "--backend", "mpi",
                     *settings({"trainer.init.default_root_dir": root, **values}))
        wanted = weights(by_mpi, "backend mpi")
        for ranks in (1, 2, 3, 4):
            done, _ = stand_in(ranks, config, root, values)
            assert weights(done, "backend nccl") == wanted, f"{config} on {ranks} ranks has other bits"
    print("canonical numerics: the bits of MPI over NCCL on 1 to 4 ranks", flush=True)


def calls(root):
    """What two ranks ask NCCL for in five steps: buckets in order, waited for once, by events alone."""
    programs.ENVIRONMENT["NCCL_STAND_IN_LOG"] = str(root / "calls")
    values = {"trainer.init.max_steps": 5, "trainer.init.numerics": "ordinary", "trainer.init.bucket_cap_mb": 0.1}
    done, _ = stand_in(2, "configs/mnist.toml", root, values)
    del programs.ENVIRONMENT["NCCL_STAND_IN_LOG"]
    assert done.returncode == 0, done.stderr
    first, second = ((root / f"calls.{rank}").read_text() for rank in (0, 1))
    assert first == second, "the ranks' calls differ"
    wanted = GOLDEN.read_text()
    assert first == wanted, f"other calls than in {GOLDEN}; if they shall be so, put these there:\n{first}"
    print("the calls of five steps are as they were", flush=True)


def devices(root):
    """Each rank of a node takes the next GPU, of those that were asked for, and has it to itself."""
    values = {**STEPS, "trainer.init.max_steps": 2}
    for ranks, gpus, words, code, told in (
            (2, 8, (), 0, "GPU 0 of the stand-in"),
            (2, 8, ("-g", "5,2"), 0, "GPU 5 of the stand-in"),
            (1, 8, ("-g", "7"), 0, "backend self, 1 thread per rank, GPU 7 of the stand-in"),
            (2, 8, ("--backend", "mpi"), 78, "--backend mpi can't reach a GPU's memory"),
            (2, 8, ("-g", "3"), 78, "ranks 0 and 1 of one node would share its GPU 3"),
            (3, 2, (), 78, "ranks 0 and 2 of one node would share its GPU 0"),
            (2, 2, ("-g", "0,2"), 78, "-g asks for GPU 2, but the GPUs that this process sees are: GPU 0 of the stand-in; GPU 1"),
            (2, 0, ("-g", "0,1"), 69, "-g asks for GPUs, but")):
        programs.ENVIRONMENT["NCCL_STAND_IN_GPUS"] = str(gpus)
        done = run(ranks, PROGRAM, "configs/mnist.toml", "-o", *words,
                   *settings({"trainer.init.default_root_dir": root, **values}))
        assert done.returncode == code and told in done.stderr, (words, done.returncode, done.stderr)
    programs.ENVIRONMENT["NCCL_STAND_IN_GPUS"] = "1"
    programs.ENVIRONMENT["NCCL_MULTI_RANK_GPU_ENABLE"] = "1"
    done = run(2, PROGRAM, "configs/mnist.toml", "-o", *settings({"trainer.init.default_root_dir": root, **values}))
    assert done.returncode == 0, done.stderr
    for name in ("NCCL_STAND_IN_GPUS", "NCCL_MULTI_RANK_GPU_ENABLE"):
        del programs.ENVIRONMENT[name]
    print("devices: each rank has its own, or is told why not", flush=True)


# The fault, its exit codes, and what has to be said.
FAULTS = [
    ("init_error", {69}, "a fault that was asked for"),
    ("init_error,rank=1", {69}, "rank 1"),
    ("init_hang,rank=1", {69}, "has not brought the ranks together"),
    *[(f"error@{at},rank={rank}", {74}, "NCCL failed in or before") for at in (1, 2, 7) for rank in (0, 1)],
    *[(f"async_error@{at},rank={rank}", {74}, "NCCL failed in or before") for at in (1, 2, 7) for rank in (0, 1)],
    *[(f"die@{at},rank={rank}", {137}, f"rank {rank}") for at, rank in ((1, 0), (4, 1), (9, 0))],
    *[(f"hang@{at},rank={rank}", {137}, "hangs") for at, rank in ((3, 0), (5, 1))],
]


def faults(root):
    def tried(case):
        ranks, (fault, codes, words) = case
        done, seconds = stand_in(ranks, "configs/mnist.toml", root, {**STEPS, "trainer.init.numerics": "ordinary"}, fault)
        context = f"{fault} on {ranks} ranks: exit {done.returncode} after {seconds:.0f} s\n{done.stderr}"
        assert done.returncode in codes, context
        assert words in done.stderr, context
        return f"{fault} on {ranks} ranks: exit {done.returncode} after {seconds:.1f} s"

    cases = [(ranks, fault) for ranks in (2, 3) for fault in FAULTS if ranks == 2 or not fault[0].startswith("init_hang")]
    cases.sort(key=lambda case: not case[1][0].startswith("init_hang"))  # takes a minute, the limit, beside all others
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for said in pool.map(tried, cases):
            print(said, flush=True)


def main():
    if not (BUILD / PROGRAM).exists():
        print(f"{PROGRAM} was not built: NCCL's and CUDA's headers were not found", flush=True)
        os._exit(77)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        devices(root)
        equal_bits(root)
        calls(root)
        faults(root)


if __name__ == "__main__":
    main()
