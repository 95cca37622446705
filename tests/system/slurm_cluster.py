"""A Slurm of one node and nothing shared: munged, slurmctld and slurmd with keys, folders and ports of their own."""

import ctypes
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# Open MPI names shared memory after the job's number: clusters that run at the same time begin at different ones.
# The two partitions are the same node: jobs in `urgent` put those in `normal` off. A requeued job must outlive the
# credentials of its first start before it is started again, which is two minutes unless said otherwise.
CONFIG = """
ClusterName=lab
FirstJobId={first_job}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
TmpFS={root}/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
MpiDefault=none
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
KillWait=30
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 Port={one} CPUs=2 State=UNKNOWN
NodeName=two NodeHostname=localhost NodeAddr=127.0.0.1 Port={two} CPUs=2 State=UNKNOWN
PartitionName=normal Nodes=one Default=YES PriorityTier=1
PartitionName=urgent Nodes=one PriorityTier=2 PreemptMode=OFF
PartitionName=other Nodes=two PriorityTier=1
PartitionName=both Nodes=one,two PriorityTier=1
"""


def why_not():
    """The reason why no Slurm can be started here, or None."""
    if os.geteuid() != 0:
        return "slurmd must be started as root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return f"{', '.join(missing)} missing; scripts/setup --tests as root installs them" if missing else None


def free_ports(count):
    """Below those that the kernel gives to connections, one of which could take a port before its daemon does."""
    ports = []
    while len(ports) < count:
        port = random.randrange(15000, 32000)
        with socket.socket() as s:
            if port not in ports and s.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


def wait_until(reached, what, seconds=60):
    """The first true value of reached()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = reached()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain until {what}")


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            pass
    return found


def descendants(pid):
    direct = children(pid)
    return direct + [grandchild for child in direct for grandchild in descendants(child)]


def environment_of(pid):
    """The NAME=VALUE words that a process was started with."""
    try:
        return set(pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"))
    except OSError:
        return set()


class Cluster:
    """Use with `with`. At its end no process is left of what was started in it: every orphan becomes a child of this process."""

    def __init__(self, root):
        self.root, self.daemons = pathlib.Path(root), []
        self.root.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN", "OMPI", "PMI"))}
        self.environment.update(PATH=PATH, SLURM_CONF=str(self.root / "slurm.conf"))
        controller_port, one, two = free_ports(3)
        for folder in ("state", "spool-one", "spool-two", "tmp-one", "tmp-two", "munge"):
            (self.root / folder).mkdir(mode=0o755)
        config = CONFIG.format(root=self.root, controller_port=controller_port, one=one, two=two,
                               first_job=random.randrange(1, 60000))
        (self.root / "slurm.conf").write_text(config)
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def __enter__(self):
        self.libc = ctypes.CDLL(None)
        self.libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            munge = self.root / "munge"
            (munge / "key").write_bytes(os.urandom(128))
            (munge / "key").chmod(0o400)
            self.start("munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key", f"--seed-file={munge}/seed",
                       f"--pid-file={munge}/pid", f"--log-file={munge}/log")
            wait_until((munge / "socket").exists, "munged answers")
            self.start("slurmctld", "-D", "-c")
            self.started = time.monotonic()
            self.start("slurmd", "-D", "-c", "-N", "one")
            self.start("slurmd", "-D", "-c", "-N", "two")
            wait_until(self.both_idle, "both nodes are idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """Ends the daemons and everything that they started."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + 5
            while (left := descendants(os.getpid())) and time.monotonic() < end:
                for pid in left:
                    try:
                        os.kill(pid, sign)
                        os.waitpid(pid, os.WNOHANG)
                    except (ProcessLookupError, ChildProcessError):
                        pass
                time.sleep(0.1)
        assert not descendants(os.getpid()), "processes that cannot be ended"

    def start(self, program, *words):
        """A daemon that ends with this process, whatever ends it."""
        with open(self.root / f"{program}.out", "ab") as out:
            self.daemons.append(subprocess.Popen([program, *words], env=self.environment, cwd=self.root, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                                 preexec_fn=lambda: self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)))

    def both_idle(self):
        return self.ask("sinfo", "-h", "-N", "-p", "both", "-o", "%T").stdout.split() == ["idle", "idle"]

    def ask(self, *words, **options):
        """The finished process of a Slurm command, which would wait long for a daemon that is gone."""
        gone = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
        assert not gone, "\n".join(f"{name} has ended:\n{(self.root / name).with_suffix('.out').read_text()}" for name in gone)
        return subprocess.run([*map(str, words)], env=self.environment, capture_output=True, text=True, timeout=300, **options)

    def job(self, number):
        """What Slurm knows of a job, by name of the value."""
        shown = self.ask("scontrol", "show", "job", "-o", number).stdout
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)
