"""A build's warm process: it imports what the pages need once, and every page runs in a fork of it.

::

    python -m paper.tools.warm NAME pages run notebooks/world.ipynb book/runs/world.ipynb
    python -m paper.tools.warm book typeset
    python -m paper.tools.warm kernel -f CONNECTION_FILE

runs ``paper.tools.pages`` (or ``typeset``, or a kernel for whoever starts kernels by a specification, as nbval does:
``tests/jupyter``) with the arguments that follow; ``NAME`` says whose run it is if it is killed. Inside a build (the
Snakefile puts its process into ``BOOK_BUILD``) the first page starts a server that outlives no build. Each page is a
fork of the server, and its kernel is another one, made before the page starts any thread. Outside a build, or where no
server can be had, the same function runs in this process, and the kernel is a process of Jupyter's: slower, with the
same outputs. The server listens in Linux's abstract socket namespace, so nothing on disk can be left behind, and
answers only this user.

Every process asks the system to be killed with the one that made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

#: What may be run, and whether it is worth starting a server for.
MODULES = {"pages": True, "typeset": False, "kernel": True}

#: Where runs leave the time at which they began, in the folder of the build.
BEGAN = os.path.join("_build", "began")

_INTERRUPTED = 130  # by Ctrl-C, which nobody wants explained by a traceback
_STALE = 255  # a file of the repository has changed since the server imported it
_START = 30.0  # seconds that a server may take until it listens; it imports later


# -------------------------------------------------------------------------------------------------------- client


def _address(build: str) -> str:
    """A name for each build and number of threads: OpenMP reads its number once, when it is loaded."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return f"\0when-gradients-cannot-help/{os.getuid()}/{build}/{threads}"


def _same_user(connection: socket.socket) -> bool:
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user == os.getuid()


def _connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        if _same_user(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _server(build: str, start: bool) -> socket.socket | None:
    """A connection to the build's server, which is started if there is none yet."""
    address = _address(build)
    connection = _connect(address)
    if connection is not None or not start:
        return connection
    with open(os.devnull, "r+b") as nothing:
        command = [sys.executable, "-P", "-m", "paper.tools.warm", "serve", build]
        started = subprocess.Popen(command, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)
    until, spare = time.monotonic() + _START, 20
    while connection is None and spare and time.monotonic() < until:
        time.sleep(0.05)
        # One that ended has lost a race to another page's server, which is about to listen.
        spare -= started.poll() is not None
        connection = _connect(address)
    return connection


def run(name: str, module: str, arguments: Sequence[str]) -> int:
    """Run ``paper.tools.MODULE`` with ``arguments`` in a fork of the build's server, or else here.

    Success leaves an empty file ``_build/began/NAME`` that is as old as the start.
    """
    began = time.time_ns()
    status = _run(name, module, arguments)
    if status == 0 and module != "kernel":
        os.makedirs(BEGAN, exist_ok=True)
        path = os.path.join(BEGAN, name)
        with open(path, "wb"):
            os.utime(path, ns=(began, began))
    return status


def backdate(name: str, path: str) -> None:
    """Make a page as old as the start of its run: Snakemake dates it by the end, as if what was edited meanwhile
    had been part of it.
    """
    with contextlib.suppress(FileNotFoundError):
        began = os.stat(os.path.join(BEGAN, name)).st_mtime_ns
        if os.stat(path).st_mtime_ns > began:
            os.utime(path, ns=(began, began))


def _run(name: str, module: str, arguments: Sequence[str]) -> int:
    build = os.environ.get("BOOK_BUILD") if sys.platform == "linux" else None
    connection = _server(build, MODULES[module]) if build else None
    if connection is not None:
        status = _ask(connection, module, arguments)
        if status is None:
            print(f"{name}: failed, because the process that ran it was killed", flush=True)
            return 1
        if status != _STALE:
            return status
    if module == "kernel":
        os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])
    return importlib.import_module(f"paper.tools.{module}").main(list(arguments))


def _ask(connection: socket.socket, module: str, arguments: Sequence[str]) -> int | None:
    request = {"module": module, "arguments": list(arguments), "folder": os.getcwd(), "environment": dict(os.environ)}
    with connection:
        socket.send_fds(connection, [b"\n"], [1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            if answer := connection.recv(1):
                return answer[0]
    return None


# -------------------------------------------------------------------------------------------------------- server


def serve(build: str) -> int:
    """Answer requests until the process ``build`` is gone."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(_address(build))
    except OSError:
        return 0  # there is one already
    listening.listen(128)

    def tick(*_: object) -> None:
        try:
            os.kill(int(build), 0)
        except OSError:
            os._exit(0)  # and with it, by their own wish, all processes that it made

    # A signal, not a thread: a process with threads cannot be forked safely. It also ends a server that imports.
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a page that ended leaves no trace
    seen: dict[Path, tuple[int, int]] | None = None
    while True:
        connection, _ = listening.accept()
        with connection:
            if not _same_user(connection):
                continue
            seen = _import() if seen is None else seen
            parent = os.getpid()
            if os.fork() == 0:
                listening.close()
                os._exit(_answer(connection, parent, seen))


def _import() -> dict[Path, tuple[int, int]]:
    """Import whatever some page imports; returns the state of the repository's files that this read."""
    from paper.tools import sources

    # What a kernel would set before anybody can import matplotlib, which reads it once.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    before = _states(sources.modules())
    wanted = ["ipykernel.kernelapp", "ipykernel.datapub", "papermill", "nbclient", "jupyter_client"]
    for path in sources.modules():
        wanted.append(".".join(path.relative_to(sources.ROOT).with_suffix("").parts).removesuffix(".__init__"))
        with contextlib.suppress(ValueError):  # no Python: the page that needs it says so
            wanted += sources.imports(path)
    for name in wanted:
        # A name may be none of a module, or of one that is not installed; what fails, fails again in its page.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # forks share these objects, and the collector leaves them alone
    return before


def _states(paths: Any) -> dict[Path, tuple[int, int]]:
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


# --------------------------------------------------------------------------------------------- one page and its kernel


def _die_with(parent: int) -> None:
    """Ask to be killed when the process ``parent``, which forked this one, ends in whatever way."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _answer(connection: socket.socket, parent: int, seen: dict[Path, tuple[int, int]]) -> int:
    """In a fork of the server: do what the client asks, and send it the exit status."""
    _die_with(parent)
    stale = _states(seen) != seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
    for stream, descriptor in enumerate(outputs, 1):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    status = _STALE if stale else _perform(request, connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client leaves when it has the answer
    with contextlib.suppress(OSError):
        connection.sendall(bytes([status]))
    return status


def _perform(request: dict[str, Any], connection: socket.socket) -> int:
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    options: dict[str, Any] = {}
    if request["module"] == "pages":
        options["kernels"] = _kernels(_fork_kernel())
    _interrupt_without(connection)
    try:
        if request["module"] == "kernel":
            os.environ["JPY_PARENT_PID"] = str(os.getppid())  # the client is not its parent
            return _kernel(request["arguments"])
        return importlib.import_module(f"paper.tools.{request['module']}").main(request["arguments"], **options)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _interrupt_without(client: socket.socket) -> None:
    """End this process when the client is gone: first as by Ctrl-C, which tidies up, then by force."""
    import threading

    def watch() -> None:
        with contextlib.suppress(OSError):
            client.recv(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()


class _Process:
    """A forked child with what Jupyter uses of a :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, start: Callable[[dict[str, Any]], None]) -> None:
        self.pid = pid
        self.start = start
        self.returncode: int | None = None

    def _wait(self, flags: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, flags)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for the end; returns the exit status."""
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _fork_kernel() -> _Process:
    """A fork that becomes a kernel when it is told how; made while this process still has one thread."""
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        _be_kernel(reading, parent)
    os.close(reading)

    def start(how: dict[str, Any]) -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(how).encode())

    return _Process(pid, start)


def _be_kernel(reading: int, parent: int) -> NoReturn:
    """Wait for the connection file, then be a kernel as ``python -m ipykernel_launcher`` would be."""
    os.setsid()
    _die_with(parent)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if not told:
        os._exit(0)
    how = json.loads(told)
    os.environ.clear()
    os.environ.update(how["environment"])
    os.chdir(how["folder"])
    try:
        _kernel(how["arguments"])
    finally:
        sys.stdout.flush()
        os._exit(0)


def _kernel(arguments: Sequence[str]) -> int:
    """Be a kernel, as ``python -m ipykernel_launcher`` would, until it is shut down."""
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    from ipykernel.kernelapp import IPKernelApp

    launcher = importlib.util.find_spec("ipykernel_launcher")
    assert launcher is not None and launcher.origin is not None
    sys.argv = [launcher.origin, *arguments]
    IPKernelApp.launch_instance()
    return 0


def _kernels(process: _Process) -> type:
    """A kernel manager whose kernel is ``process``, a fork that waits to become one."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner

    class ForkedKernelManager(AsyncKernelManager):
        """Starts its kernel in a fork that was made before."""

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
            arguments = kernel_cmd[kernel_cmd.index("ipykernel_launcher") + 1 :]
            environment = {**os.environ, **(kw.get("env") or {}), "JPY_PARENT_PID": str(os.getpid())}
            folder = str(kw.get("cwd") or os.getcwd())
            process.start({"arguments": arguments, "environment": environment, "folder": folder})
            assert isinstance(self.provisioner, LocalProvisioner)
            self.provisioner.process = process  # type: ignore[assignment]
            self.provisioner.pid = self.provisioner.pgid = process.pid
            self._reconcile_connection_info(self.provisioner.connection_info)

    return ForkedKernelManager


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    if len(arguments) == 2 and arguments[0] == "serve":
        return serve(arguments[1])
    words = ["kernel", *arguments] if arguments[:1] == ["kernel"] else list(arguments)
    if len(words) < 2 or words[1] not in MODULES:
        print(f"usage: python -m paper.tools.warm NAME {'|'.join(MODULES)} ARGUMENT ...", file=sys.stderr)
        return 2
    try:
        return run(words[0], words[1], words[2:])
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
