"""What does not depend on how fast the machine is just now, of each step and sum: calls of the system and of the
allocator, page faults, waits, collectives and their bytes."""

import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from sides import DIGITS, SAME_ALLOCATOR, Sides

UNITS = 20


def counts(build, folder, _, table):
    """lab's beside those of DDP(gloo), of one rank and all its threads."""
    for network, batch in (("mlp", 64), ("cnn", 64)):
        with Sides(build, folder, counted=True) as sides:
            table.note(f"lab, step, {network}: {per_unit(sides, sides.steps(network, 2 * batch))}")
            canonical = sides.steps(network, 2 * batch, numerics="canonical")
            table.note(f"lab canonical, step, {network}: {per_unit(sides, canonical)}")
            peer = sides.ddp("step", network, batch, DIGITS, allocator=SAME_ALLOCATOR)
            table.note(f"DDP(gloo), step, {network}: {per_unit(sides, peer)}")
    with Sides(build, folder, counted=True) as sides:
        table.note(f"lab, all-reduce, 1 MiB: {per_unit(sides, sides.sums(1 << 20))}")
        table.note(f"gloo, all-reduce, 1 MiB: {per_unit(sides, sides.ddp('all_reduce', 1 << 20))}")


def per_unit(sides, group):
    group.run(UNITS)  # first steps allocate what stays
    readers = {"allocations": sides.allocations, "page faults": page_faults, "waits": context_switches}
    before = {name: read(group.pids[0]) for name, read in readers.items()}
    said = group.run(UNITS)
    found = {name: read(group.pids[0]) - before[name] for name, read in readers.items()}
    found |= system_calls(group, UNITS)
    words = [f"{value / UNITS:.1f} {name}" for name, value in found.items()]
    words += [f"{said[name]:.0f} {name}" for name in ("collectives", "bytes") if name in said]
    return ", ".join(words)


def page_faults(pid):
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    return int(after_name.split()[7])


def context_switches(pid):
    """Voluntary ones: a thread had to wait."""
    tasks = [task.read_text(encoding="utf-8") for task in pathlib.Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", task).group(1)) for task in tasks)


def system_calls(group, count):
    """By strace, where that is installed and may attach."""
    if not shutil.which("strace"):
        return {}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as summary:
        command = ["strace", "-c", "-U", "calls,name", "-f", "-o", summary.name, "-p", str(group.pids[0])]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            if "attached" not in strace.stderr.readline():
                return {}
            time.sleep(0.5)  # until it has all threads
            group.run(count)
            strace.send_signal(signal.SIGINT)
            strace.communicate()
        total = re.search(r"(\d+)\s+total", summary.read())
    return {"system calls": int(total.group(1))} if total else {}


def proportional_bytes(group):
    """Memory of each rank: its PSS, which counts a page that n processes share as 1/n. All ranks at one moment."""
    rollups = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8") for pid in group.pids]
    return [1024 * int(re.search(r"\nPss:\s*(\d+) kB", rollup).group(1)) for rollup in rollups]
