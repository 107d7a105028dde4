"""Commands that start at once: a server imports torch and fairseq and forks for each of them.

    python forked_commands.py SOCKET PROGRAM [ARGUMENT ...]    hands a command to the server

Starting a Python with fairseq takes seconds, which a page of commands pays for each of its lines.
:func:`serve` puts programs of the same names into a folder for PATH; each hands its arguments,
folder, environment and open files to the server and ends as the command ends.
"""

import array
import atexit
import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Iterator

# Program -> its module and function, as setup.py says. The first to be imported says what log lines
# look like.
PROGRAMS = {
    "fairseq-train": ("fairseq_cli.train", "cli_main"),
    "fairseq-preprocess": ("fairseq_cli.preprocess", "cli_main"),
    "fairseq-validate": ("fairseq_cli.validate", "cli_main"),
    "fairseq-hydra-train": ("fairseq_cli.hydra_train", "cli_main"),
    "convbert": ("convbert_plugin.cli", "main"),
}
PYTHON = "python"
STREAMS = 3
COUNT = 8


def hand_over(where: str, program: str, arguments: list[str]) -> int:
    """Have the server run a command; its exit status."""
    request = json.dumps([program, arguments, os.getcwd(), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(where)
        descriptors = array.array("i", range(STREAMS))
        line.sendmsg(
            [len(request).to_bytes(COUNT)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        )
        line.sendall(request)
        # No bytes come from a server that was ended.
        return int.from_bytes(line.recv(COUNT) or b"\x01")


def serve_requests(where: str) -> None:
    """Import what is slow to import, then fork for each command that is handed over."""
    # Worker processes are no commands: this keeps the name of the real Python for them.
    importlib.import_module("multiprocessing.spawn")
    for module, _ in PROGRAMS.values():
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{where}.new")
        door.listen()
        # There only when it answers.
        os.rename(f"{where}.new", where)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(line)
            line.close()


def answer(line: socket.socket) -> None:
    """Run a command in a process of its own and tell how it ended."""
    head, descriptors, _, _ = socket.recv_fds(line, COUNT, STREAMS)
    wanted = int.from_bytes(head)
    request = b""
    while len(request) < wanted:
        request += line.recv(wanted - len(request))
    process = os.fork()
    if process == 0:
        line.close()
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        become(*json.loads(request))
    for descriptor in descriptors:
        os.close(descriptor)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    line.sendall((code if code >= 0 else 128 - code).to_bytes(COUNT))
    os._exit(0)


def become(program: str, arguments: list[str], folder: str, environment: dict) -> None:
    """Do what a new process of this program would do, to its end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Scripts start their own Pythons by this name.
    sys.executable = str(Path(environment["FORKED_PROGRAMS"]) / PYTHON)
    status = 0
    try:
        run(program, arguments)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # What Python does at its end, but for taking torch apart, which takes seconds.
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def run(program: str, arguments: list[str]) -> None:
    if program in PROGRAMS:
        sys.argv = [program, *arguments]
        module, function = PROGRAMS[program]
        sys.exit(getattr(sys.modules[module], function)())
    elif arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


@contextlib.contextmanager
def serve(folder: Path, package: Path) -> Iterator[dict]:
    """The environment in which the programs are those of a server; ``package`` is on its path."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    where = programs / "socket"
    for name in (*PROGRAMS, PYTHON):
        shim = programs / name
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {__file__} {where} {name} "$@"\n')
        shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(package),
        "FORKED_PROGRAMS": str(programs),
    }
    server = subprocess.Popen(
        [sys.executable, __file__, where],
        cwd=package,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not where.exists():
            if server.poll() is not None:
                raise RuntimeError("the server of commands did not start")
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.1)
        yield environment
    finally:
        # With all that still runs for it.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(hand_over(sys.argv[1], sys.argv[2], sys.argv[3:]))
    serve_requests(sys.argv[1])
