"""The stand-in for NCCL finds bugs: each of many, put into a copy of the backend, makes the backend's tests fail.

    nccl_bugs_test.py BUILD_FOLDER
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(sys.argv[1]).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/comm/nccl.cpp"
SECONDS = 40  # some bugs make ranks wait for ever
TESTS = "--gtest_filter=Nccl.*:*AllReduceOf*/nccl_2:*Broadcast*/nccl_3:*AllGather*/nccl_3:*Exchange*/nccl_3:*Tree*/nccl_2"

# Name, what stands in the source, and what the bug has instead.
BUGS = [
    ("sums begin before the gradients are made", "streams_->begin.hold(streams_->own.handle());", ""),
    ("the begin is never marked", "streams_->begin.record(compute_stream());", ""),
    ("the begin is marked too late", "streams_->begin.record(compute_stream());\n    streams_->begin.hold(streams_->own.handle());",
     "streams_->begin.hold(streams_->own.handle());\n    streams_->begin.record(compute_stream());"),
    ("the begin is marked on the wrong stream", "streams_->begin.record(compute_stream());", "streams_->begin.record(streams_->own.handle());"),
    ("nobody waits for the end", "streams_->end.hold(compute_stream());", ""),
    ("the end is never marked", "streams_->end.record(streams_->own.handle());", ""),
    ("the end is marked on the compute stream", "streams_->end.record(streams_->own.handle());", "streams_->end.record(compute_stream());"),
    ("the wrong stream waits for the end", "streams_->end.hold(compute_stream());", "streams_->end.hold(streams_->own.handle());"),
    ("a ticket's end is never marked", "done->record(streams_->own.handle());", ""),
    ("a ticket's end is marked on the compute stream", "done->record(streams_->own.handle());", "done->record(compute_stream());"),
    ("a ticket does not wait", "done->hold(compute_stream());", ""),
    ("a ticket is marked before its work",
     "behind_ = true; try { work(); } catch (...) { behind_ = false; throw; } behind_ = false; auto done = std::make_shared<Event>(); done->record(streams_->own.handle());",
     "auto done = std::make_shared<Event>();\n    done->record(streams_->own.handle());\n    behind_ = true;\n    work();\n    behind_ = false;"),
    ("what follows submitted work does not wait", "behind_ = false; auto done", "auto done"),
    ("what is exchanged in submitted work is not waited for", "if (behind_ && !waits) return;", "if (behind_) return;"),
    ("a launch on the compute stream", "static_cast<cudaStream_t>(streams_->own.handle())", "static_cast<cudaStream_t>(compute_stream())"),
    ("one element too few", "return static_cast<size_t>(buffer.count);", "return static_cast<size_t>(buffer.count) - 1;"),
    ("one element too many", "return static_cast<size_t>(buffer.count);", "return static_cast<size_t>(buffer.count) + 1;"),
    ("f32 sent as f64", "return ncclFloat32;", "return ncclFloat64;"),
    ("i64 sent as bytes", "return ncclInt64;", "return ncclUint8;"),
    ("least and greatest mixed up", "ReduceOp::min ? ncclMin : ncclMax", "ReduceOp::min ? ncclMax : ncclMin"),
    ("another operation on one rank", "nccl_op(op), group,", "rank() == 1 ? ncclMin : nccl_op(op), group,"),
    ("another count on one rank", "return ncclAllReduce(buffer.data, buffer.data, elements(buffer),",
     "return ncclAllReduce(buffer.data, buffer.data, rank() == 1 ? 1 : elements(buffer),"),
    ("another root on each rank", "nccl_type(buffer.type), root, group", "nccl_type(buffer.type), rank(), group"),
    ("everybody gives the first part", "all.slice(rank() * part, part)", "all.slice(0, part)"),
    ("each part as large as the whole", "all.data, elements(mine)", "all.data, elements(all)"),
    ("one rank skips a collective", "if (call.count == 0 &&", "if (rank() == 1 && call.count == 4097) return;\n    if (call.count == 0 &&"),
    ("messages without a group", "ncclResult_t worst = ncclGroupStart();", "ncclResult_t worst = ncclSuccess;"),
    ("a group that does not end", "const auto end = ncclGroupEnd();", "const auto end = ncclSuccess;"),
    ("messages from oneself", "note(ncclRecv(buffer.data, elements(buffer), nccl_type(buffer.type), peer,",
     "note(ncclRecv(buffer.data, elements(buffer), nccl_type(buffer.type), rank() + 0 * peer,"),
    ("who has no messages goes to the host", "on_host(\"exchange\") .all_reduce({&by_nccl, 1, DType::i64}, ReduceOp::max);", ""),
    ("memory of the host's", "return device_allocation(bytes);", "return plain_memory(bytes);"),
    ("calls go on after an abort", "ncclCommAbort(std::exchange(group_, nullptr));", "ncclCommAbort(group_);"),
    ("an error is told and nothing aborted", "ncclCommAbort(std::exchange(group_, nullptr));", "group_ = nullptr;"),
    ("nobody looks for errors", "stopping_ || !group_; })) look_once();", "stopping_ || !group_; })) {}"),
    ("an error under way is not told by the ticket", 'group_->require_alive("what was submitted");', ""),
    ("the host's group goes on after an error", "group_->require_alive(operation);", ""),
    ("a group that blocks its callers", "config.blocking = 0;", "config.blocking = 1;"),
    ("a config that holds anything", "ncclConfig_t config = NCCL_CONFIG_INITIALIZER;", "ncclConfig_t config = {};"),
    ("the id stays with rank 0", "host.broadcast({&id, sizeof id, DType::u8}, 0);", ""),
    ("two ranks of the same number", "host.size(), id, host.rank(), &config", "host.size(), id, 0, &config"),
    ("a call before the group is ready", "await_all(host, ncclCommInitRankConfig(&group_, host.size(), id, host.rank(), &config));",
     "(ncclCommInitRankConfig(&group_, host.size(), id, host.rank(), &config), ncclSuccess);"),
]


class Copies:
    """Compiles and links the backend's tests with another nccl.cpp, as the build does it."""

    def __init__(self):
        commands = json.loads((BUILD / "compile_commands.json").read_text())
        self._compile = next(c["command"] for c in commands if c["file"] == str(SOURCE) and "nccl_stand_in" in c["command"])
        listed = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", "unit_nccl"], capture_output=True, text=True, check=True)
        self._link = [line for line in listed.stdout.splitlines() if line.endswith("&& :") or " -o unit_nccl " in line][-1]

    def make(self, text, folder):
        """The program's path, or None where the copy does not compile."""
        source, made, program = folder / "nccl.cpp", folder / "nccl.o", folder / "unit_nccl"
        source.write_text(text)
        words = shlex.split(self._compile)
        old = words[words.index("-o") + 1]
        words = [str(made) if word == old else str(source) if word == str(SOURCE) else word for word in words]
        done = subprocess.run([*(w for w in words if not w.startswith("-M")), "-w"], cwd=BUILD, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, flush=True)
            return None
        link = self._link.replace(f" {old} ", f" {made} ").replace(" -o unit_nccl ", f" -o {program} ")
        subprocess.run(link, shell=True, cwd=BUILD, check=True, capture_output=True)
        return program


def outcome(program):
    """'' if all tests passed, else how they failed."""
    try:
        done = subprocess.run([program, TESTS, "--gtest_brief=1"], capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s"
    if done.returncode == 0:
        return ""
    said = [line for line in (done.stdout + done.stderr).splitlines() if "nccl stand-in:" in line or "Failure" in line or "what():" in line]
    return said[0].strip() if said else f"exit {done.returncode}"


def changed(text, name, old, new):
    """The source with the bug; however its lines are broken."""
    place = re.compile(r"\s+".join(map(re.escape, old.split())))
    found = place.findall(text)
    assert len(found) == 1, f"{name}: {old!r} is {len(found)} times in {SOURCE}"
    return place.sub(lambda _: new, text)


def main():
    if not (BUILD / "unit_nccl").exists():
        print("unit_nccl was not built: NCCL's and CUDA's headers were not found", flush=True)
        os._exit(77)
    copies, text = Copies(), SOURCE.read_text()

    def tried(bug):
        with tempfile.TemporaryDirectory() as folder:
            program = copies.make(changed(text, *bug) if bug else text, pathlib.Path(folder))
            return outcome(program) if program else None

    found = tried(None)
    assert found == "", f"the backend itself fails: {found}"
    missed = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for bug, how in zip(BUGS, pool.map(tried, BUGS)):
            assert how is not None, f"{bug[0]}: does not compile"
            print(f"{bug[0]}: {how or 'NOT FOUND'}", flush=True)
            missed += [] if how else [bug[0]]
    assert not missed, f"not found: {missed}"
    print(f"{len(BUGS)} bugs found", flush=True)


if __name__ == "__main__":
    main()
