"""Two nodes on one machine: network namespaces with a host name each, joined by a link of limited speed.

Needs root and `ip`, `tc` and `unshare`; reason_against() says what is missing. What the nodes share of memory is the
machine's, but the launcher counts them as two, so their ranks talk over the link.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from programs import ENVIRONMENT

ADDRESSES = ("10.77.31.1", "10.77.31.2")
AGENT = """#!/bin/sh
# Starts the launcher's daemon on the node of that address.
address=$1; shift
exec ip netns exec "lab-$address" unshare --uts sh -c 'hostname "node-$0"; exec sh -c "$1"' "${address##*.}" "$*"
"""


def reason_against():
    """Why there can be no such nodes here; None: there can."""
    missing = [tool for tool in ("ip", "tc", "unshare") if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)} not found (Debian: iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces take root"
    # As `ip netns exec` does it, which a root that is no mount point (chroot) does not allow.
    probe = subprocess.run(["unshare", "--net", "--uts", "--mount", "--propagation", "slave", "true"],
                           capture_output=True, text=True, check=False)
    return probe.stderr.strip() if probe.returncode else None


def command(*words):
    subprocess.run(list(map(str, words)), check=True)


def namespace(address):
    return f"lab-{address}"


def bytes_sent():
    """What both nodes have sent over the link since there is one."""
    total = 0
    for address in ADDRESSES:
        shown = subprocess.run(["ip", "-n", namespace(address), "-json", "-statistics", "link", "show", "dev", "lab0"],
                               check=True, capture_output=True, text=True)
        total += json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"]
    return total


@contextlib.contextmanager
def two_nodes(rate):
    """A function that runs programs on both; rate: of the link, each way, as tc has it ("100mbit")."""
    names = list(map(namespace, ADDRESSES))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as undo:
        agent = pathlib.Path(folder) / "agent"
        agent.write_text(AGENT, encoding="utf-8")
        agent.chmod(0o755)
        for name in names:
            command("ip", "netns", "add", name)
            undo.callback(subprocess.run, ["ip", "netns", "delete", name], check=False)
        command("ip", "link", "add", "lab0", "netns", names[0], "type", "veth", "peer", "name", "lab0", "netns", names[1])
        for name, address in zip(names, ADDRESSES):
            command("ip", "-n", name, "address", "add", f"{address}/24", "dev", "lab0")
            for device in ("lo", "lab0"):
                command("ip", "-n", name, "link", "set", device, "up")
            # Some machines' default (BBR) stops sending now and then to measure the way anew.
            command("ip", "netns", "exec", name, "sh", "-c", "echo reno > /proc/sys/net/ipv4/tcp_congestion_control")
            command("tc", "-n", name, "qdisc", "add", "dev", "lab0", "root", "tbf", "rate", rate, "burst", "256kb",
                    "latency", "100ms")

        def run(per_node, *words, seconds=300):
            """The finished mpirun, with so many ranks on each node."""
            hosts = ",".join(f"{address}:{per_node}" for address in ADDRESSES)
            launcher = ["mpirun", "-np", 2 * per_node, "--host", hosts, "--oversubscribe", "--bind-to", "none"]
            for key, value in {"plm_rsh_agent": agent, "btl": "self,vader,tcp", "btl_tcp_if_include": "10.77.31.0/24",
                               "oob_tcp_if_include": "10.77.31.0/24"}.items():
                launcher += ["--mca", key, value]
            on_the_first = ["ip", "netns", "exec", names[0], "unshare", "--uts", "sh", "-c",
                            'hostname "$0"; exec "$@"', "node-1"]  # without dots, as the launcher cuts names there
            return subprocess.run(list(map(str, [*on_the_first, *launcher, *words])), env=ENVIRONMENT,
                                  capture_output=True, text=True, timeout=seconds, check=False)

        yield run
