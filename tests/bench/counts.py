"""What does not depend on how fast the machine is just now: system calls, page faults and context switches of each unit."""

import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time


def per_unit(group, count):
    """Of all threads of rank 0, for each of so many units of work: words for a note."""
    faults, switches = page_faults(group.pids[0]), context_switches(group.pids[0])
    said = group.run(count)
    found = {"page faults": page_faults(group.pids[0]) - faults,
             "context switches": context_switches(group.pids[0]) - switches,
             **system_calls(group, count)}
    words = [f"{value / count:.1f} {name}" for name, value in found.items()]
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
        with subprocess.Popen(["strace", "-c", "-f", "-o", summary.name, "-p", str(group.pids[0])], stderr=subprocess.PIPE,
                              text=True) as strace:
            if "attached" not in strace.stderr.readline():
                return {}
            time.sleep(0.5)  # until it has all threads
            group.run(count)
            strace.send_signal(signal.SIGINT)
            strace.communicate()
        total = re.search(r"(\d+)(?:\s+\d+)? total", summary.read())
    return {"system calls": int(total.group(1))} if total else {}


def proportional_bytes(group):
    """Memory of each rank: its PSS, which counts a page that n processes share as 1/n. All ranks at one moment."""
    rollups = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8") for pid in group.pids]
    return [1024 * int(re.search(r"\nPss:\s*(\d+) kB", rollup).group(1)) for rollup in rollups]
