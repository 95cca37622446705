"""scripts/gpu_check without a GPU: it says so at once, and a rehearsal goes through all of its steps.

    gpu_check_test.py BUILD_FOLDER
"""

import array
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import programs
from programs import BUILD

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHECK = REPOSITORY / "scripts/gpu_check"
RECORDER = BUILD / "libgpu_recorder.so"
STEPS = ["machine", "build", "conformance", "calls", "equality", "synchronisations", "throughput", "memory"]
# A thread of Python that asks CUDA and NCCL for what five steps of two ranks ask for, and twice waits for the GPU.
CALLS = """
import ctypes
lib, at = ctypes.CDLL(None), ctypes.c_void_p
compute, own, begin, done = at(0), at(32), at(1), [at(2), at(3), at(4)]
for step in range(5):
    for count, event in zip((720, 51200, 4816), done):
        lib.cudaEventRecord(begin, compute)
        lib.cudaStreamWaitEvent(own, begin, 0)
        lib.ncclAllReduce(None, None, ctypes.c_size_t(count), 7, 0, None, own)
        lib.cudaEventRecord(event, own)
    for event in done:
        lib.cudaStreamWaitEvent(compute, event, 0)
lib.cudaStreamSynchronize(compute)
lib.cudaMemcpy(None, None, ctypes.c_size_t(0), 1)
lib.cudaEventSynchronize(begin)
"""


def checked(*words, seconds=300):
    return subprocess.run([CHECK, "--python", sys.executable, *words], env=programs.ENVIRONMENT, capture_output=True, text=True,
                          timeout=seconds)


def no_gpu(root):
    start = time.monotonic()
    done = checked("--report", root / "none.md")
    assert done.returncode == 69 and "nvidia-smi" in done.stderr, (done.returncode, done.stderr)
    assert time.monotonic() - start < 10, "took too long to say that there is no GPU"
    assert not (root / "none.md").exists(), "a report of nothing"
    print("without a GPU: exit 69", flush=True)


def rehearsal(root):
    start = time.monotonic()
    done = checked("--rehearse", "--build", BUILD, "--report", root / "report.md")
    report = (root / "report.md").read_text()
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}\n{report}"
    for number, step in enumerate(STEPS, 1):
        assert f"## {number}. {step}: passed (" in report, f"step {step}:\n{report}"
    assert report.index("rehearsal on processors") < report.index("## 1."), report
    assert "## What one GPU cannot show" in report, report
    print(f"a rehearsal: {len(STEPS)} steps in {time.monotonic() - start:.0f} s", flush=True)


def failures(root):
    """A step that fails leaves the others to run, and says why."""
    poor = root / "poor"
    poor.mkdir()
    shutil.copy(BUILD / "CMakeCache.txt", poor)
    done = checked("--rehearse", "--build", poor, "--report", root / "poor.md", "--only", "build", "--only", "calls",
                   "--only", "machine")
    report = (root / "poor.md").read_text()
    assert done.returncode == 1, f"exit {done.returncode}\n{done.stderr}\n{report}"
    for words in ("machine: passed", "build: FAILED", "has no lab_train", "calls: FAILED", "1 of 3 steps passed"):
        assert words in report, f"{words} is not said:\n{report}"
    print("failed steps are said, and the others run", flush=True)


def distances(root):
    """Weights are told apart, and what the trainer keeps beside them does not count."""
    sys.path.insert(0, str(REPOSITORY / "tests/gpu"))
    from weights import distance

    def written(name, values, rest):
        bits = b"".join(array.array("d", part).tobytes() for part in (values, rest))
        header = json.dumps({"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]},
                             "lab.b": {"dtype": "F64", "shape": [1], "data_offsets": [16, 24]}}).encode()
        (root / name).write_bytes(len(header).to_bytes(8, "little") + header + bits)
        return root / name

    one = written("one", [3, 4], [1])
    assert distance(one, written("two", [3, 4], [2])) == 0
    assert abs(distance(one, written("three", [3, 4.5], [1])) - 0.1) < 1e-15
    assert not distance(one, written("four", [3, float("nan")], [1])) <= 1
    print("distances of weights are right", flush=True)


def recorder(root):
    """The recorder writes the stand-in's lines of the real libraries' calls, and counts what holds the host."""
    wheels = pathlib.Path(sys.prefix).glob("lib/python*/site-packages/nvidia")
    libraries = [library for folder in wheels for name in ("cu13/lib/libcudart.so.13", "nccl/lib/libnccl.so.2")
                 if (library := folder / name).exists()]
    if len(libraries) != 2:
        print("no CUDA runtime and NCCL beside this Python: the recorder is not tried", flush=True)
        return
    log = root / "log"
    environment = {**os.environ, "LD_PRELOAD": " ".join(map(str, [RECORDER, *libraries])), "LAB_CALLS_LOG": str(log)}
    subprocess.run([sys.executable, "-c", CALLS], env=environment, check=True, timeout=60)
    found, wanted = log.with_name("log.0").read_text(), pathlib.Path(__file__).with_name("nccl_calls.txt").read_text()
    assert found == wanted, f"the recorder has written:\n{found}"
    counts = dict(line.split() for line in log.with_name("log.0.sync").read_text().splitlines())
    assert {name for name, count in counts.items() if count == "1"} == {
        "cudaStreamSynchronize", "cudaMemcpy", "cudaEventSynchronize"}, counts
    print("the recorder sees the calls of five steps", flush=True)


def main():
    if shutil.which("nvidia-smi"):
        print("this machine has a GPU, or may have one: run scripts/gpu_check itself", file=sys.stderr)
        sys.exit(77)
    if not RECORDER.exists():
        print("libgpu_recorder.so was not built: NCCL's and CUDA's headers were not found", file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        for test in (no_gpu, distances, recorder, failures, rehearsal):
            test(pathlib.Path(folder))


if __name__ == "__main__":
    main()
