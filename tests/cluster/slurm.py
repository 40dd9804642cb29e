"""A Slurm of one's own on one machine: controller, node and munge in a folder, as any user can run them.

``python tests/cluster/slurm.py COMMAND [ARGUMENT ...]`` runs a command with it and takes it down after, whatever
happens. Nothing of the system's own Slurm is read or changed; there are no cgroups, no accounting and no systemd.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")

CONFIGURATION = """
ClusterName=book
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
SlurmdTimeout=10
MinJobAge=300
KillWait=2
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
{nodes}
PartitionName=book Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
#: Nodes are daemons of one machine, told apart by their ports.
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} State=UNKNOWN"
)


def program(name: str) -> str | None:
    """Where a program is: the daemons are not on everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    lost = [name for name in PROGRAMS if program(name) is None]
    return f"no {', '.join(lost)} (Debian: slurmctld slurmd slurm-client munge)" if lost else ""


def _dies_with_us() -> None:
    """Let the kernel end a daemon with the process that has started it, killed or not."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _ports(count: int) -> list[int]:
    """Ports that are free now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


@contextlib.contextmanager
def cluster(nodes: int = 1, cpus: int = 2, memory: int = 32000, patience: float = 30.0) -> Iterator[dict[str, str]]:
    """A running Slurm with nodes ("node0" and so on) of so many CPUs and megabytes, said and not looked up: the
    environment for its commands. It is gone when the block ends, and its jobs with it.
    """
    # A socket's path must be short, so a test's own folder will not do.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    daemons: list[subprocess.Popen[bytes]] = []
    path = f"{folder}/bin:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def start(*command: str) -> None:
        with open(folder / f"{Path(command[0]).name}{len(daemons)}.out", "wb") as out:
            given = {"stdout": out, "stderr": out, "env": environment, "start_new_session": True}
            daemons.append(subprocess.Popen(command, preexec_fn=_dies_with_us, **given))

    try:
        names = [f"node{number}" for number in range(nodes)]
        for name in ("state", "bin", *(f"spool.{name}" for name in names)):
            (folder / name).mkdir()
        # Snakemake's job step forgets where the configuration is: that of a cluster lies where all look for it.
        srun = folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {program("srun")} "$@"\n', encoding="utf-8")
        srun.chmod(0o755)
        # munge refuses a key or a socket that others could reach.
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        controller, *ports = _ports(1 + nodes)
        host, user = socket.gethostname().partition(".")[0], getpass.getuser()
        size = {"host": host, "cpus": cpus, "memory": memory}
        lines = [NODE.format(name=name, port=port, **size) for name, port in zip(names, ports, strict=True)]
        given = {"host": host, "user": user, "controller": controller, "folder": folder}
        text = CONFIGURATION.format(**given, nodes="\n".join(lines))
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items()]
        start(str(program("munged")), "--foreground", "--force", *options)
        _until(lambda: (folder / "munge.socket").exists(), daemons, folder, patience)
        start(str(program("slurmctld")), "-D", "-c")
        for name in names:
            start(str(program("slurmd")), "-D", "-N", name)
        _until(lambda: _states(environment) == ["idle"] * nodes, daemons, folder, patience)
        yield environment
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", "--full", "--user", getpass.getuser()], env=environment, timeout=10, check=False)
            _wait(lambda: not _queue(environment), 5.0)
        for daemon in reversed(daemons):
            with contextlib.suppress(OSError):
                os.killpg(daemon.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(5.0)
            with contextlib.suppress(OSError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _states(environment: dict[str, str]) -> list[str]:
    asked = ["sinfo", "--Node", "--noheader", "--format=%T"]
    return subprocess.run(asked, env=environment, capture_output=True, text=True, check=False).stdout.split()


def _queue(environment: dict[str, str]) -> str:
    asked = ["squeue", "--noheader"]
    return subprocess.run(asked, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def _wait(there, patience: float) -> bool:
    ends = time.monotonic() + patience
    while not there():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def _until(there, daemons, folder: Path, patience: float) -> None:
    """Wait for it; what does not come is said with what the daemons have said."""
    if not _wait(lambda: there() or any(one.poll() is not None for one in daemons), patience) or not there():
        said = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.out")))
        raise RuntimeError(f"Slurm does not start:\n{said}")


if __name__ == "__main__":
    if reason := missing():
        sys.exit(f"There is {reason}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # taken down then, too
    with cluster(cpus=os.cpu_count() or 1) as here:
        sys.exit(subprocess.run(sys.argv[1:], env=here, check=False).returncode)
