"""Commands as processes of their own, without the seconds that each spends on its imports.

A server imports torch, fairseq and other libraries once and forks for each command: the fork takes
the caller's arguments, folder, environment and open files, imports the plugin as the command would,
and runs the command's own entry point. The caller sees an ordinary process: exit status, output,
Ctrl-C. A test of how long a command takes to start, or of what it imports, needs a real one.

    with forked_commands(folder) as environment:
        subprocess.run(["bash", script], env={**os.environ, **environment})

In a process that gets ``environment``, the commands of NAMES, and what bash and sys.executable
start under these names further down, are forked. The tests' fixture ``forked`` gives it.
"""

import atexit
import contextlib
import gc
import importlib.metadata
import json
import logging
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

FAIRSEQ = ("preprocess", "train", "validate", "hydra-train")
NAMES = ("convbert", "python", *(f"fairseq-{name}" for name in FAIRSEQ))
# Where a forked process, and what it starts, finds the stand-ins.
FOLDER = "CONVBERT_TESTS_FORKED_COMMANDS"
# What takes long to import. The plugin is not among it: a command finds it by --user-dir.
SHARED = (
    *("fairseq_cli.preprocess", "fairseq_cli.train", "fairseq_cli.validate"),
    *("fairseq_cli.hydra_train", "torch.utils.tensorboard", "sklearn.metrics", "scipy.stats"),
    *("matplotlib.figure", "safetensors.torch", "sentencepiece", "tokenizers"),
    # By every optimizer of torch.
    "torch._dynamo",
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.01


@contextlib.contextmanager
def forked_commands(folder: Path):
    """Start the server with ``folder`` for its files; the variables that lead to it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        stand_in = folder / name
        # -I -S: starts in 20 ms.
        stand_in.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
        stand_in.chmod(0o755)
    # It imports little.
    (folder / "torchrun").symlink_to(Path(sys.executable).with_name("torchrun"))
    # Functions go before a folder that a script puts on PATH.
    functions = [f'{name}() {{ "{folder / name}" "$@"; }}\n' for name in NAMES]
    (folder / "functions.sh").write_text("".join(functions))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    server = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1])
    while not (folder / "socket").exists():
        assert server.poll() is None, "the server of forked commands did not start"
        time.sleep(POLL_SECONDS)
    try:
        yield {
            "BASH_ENV": str(folder / "functions.sh"),
            "PATH": f"{folder}:{os.environ['PATH']}",
            FOLDER: str(folder),
        }
    finally:
        server.kill()
        server.wait()


def ask(folder: Path) -> int:
    """In a stand-in: have the command forked, and wait for its exit status."""
    asked = {"argv": [Path(sys.argv[0]).name, *sys.argv[1:]], "cwd": os.getcwd()}
    body = json.dumps({**asked, "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(folder / "socket"))
        socket.send_fds(server, [struct.pack("q", len(body))], [0, 1, 2])
        server.sendall(body)
        process = struct.unpack("q", server.recv(8))[0]
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: os.kill(process, number))
        status = struct.unpack("q", server.recv(8))[0]
    if status < 0:
        with contextlib.suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def serve(folder: Path) -> dict:
    """In the server: never returns but in the fork of a command, with what was asked."""
    # It would keep the caller's pipes, which end when all that hold them do.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "starting"))
        listener.listen(64)
        (folder / "starting").rename(folder / "socket")
        while True:
            caller, _ = listener.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                break
            caller.close()
    header, files, _, _ = socket.recv_fds(caller, 8, 3)
    with caller.makefile("rb") as body:
        asked = json.loads(body.read(struct.unpack("q", header)[0]))
    process = os.fork()
    if process:
        for file in files:
            os.close(file)
        watch(process, caller)
    caller.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return asked


def watch(process: int, caller: socket.socket):
    """Tell the caller of its process; end that where the caller is no more."""
    caller.sendall(struct.pack("q", process))
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if select.select([caller], [], [], POLL_SECONDS)[0]:
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(OSError):
        caller.sendall(struct.pack("q", os.waitstatus_to_exitcode(status)))
    os._exit(0)


def run(asked: dict):
    """In the fork: what the command does, by the same entry point."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # They stand for what the one that forked has open there, which may be of another kind.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    name, *arguments = asked["argv"]
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.path.abspath(folder) for folder in added if folder]
    for handled in FORWARDED:
        usual = signal.default_int_handler if handled == signal.SIGINT else signal.SIG_DFL
        signal.signal(handled, usual)
    if name != "python":
        [command] = importlib.metadata.entry_points(group="console_scripts", name=name)
        sys.argv[:] = [str(Path(sys.executable).with_name(name)), *arguments]
        sys.executable = str(Path(os.environ[FOLDER], "python"))
        sys.exit(command.load()())
    kind = arguments[0] if arguments else ""
    if kind not in ("-m", "-c") and (not kind or kind.startswith("-")):
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.orig_argv[:] = [sys.executable, *arguments]
    sys.executable = str(Path(os.environ[FOLDER], "python"))
    if kind == "-m":
        sys.argv[:] = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv[:] = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv[:] = arguments
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


def end_with(action):
    """End as Python would, but for its taking the whole heap apart, which takes most of a second.

    What is registered with atexit is done, and threads that hold up an end are waited for.
    """
    status = 0
    try:
        action()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, (int, type(None))) else 1
        if not isinstance(ended.code, (int, type(None))):
            print(ended.code, file=sys.stderr)
    except BaseException as error:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit((status or 0) & 255)


def prepare():
    """Import what the commands share; what they have to find for themselves stays unknown."""
    for name in SHARED:
        importlib.import_module(name)
    # Each sets up the log of its own process as it is imported.
    for name in [name for name in sys.modules if name.startswith("fairseq_cli")]:
        del sys.modules[name]
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    # What is never collected is not copied.
    gc.freeze()
    assert threading.active_count() == 1, "a fork takes no threads along"


if __name__ == "__main__":
    here = Path(sys.argv[0]).resolve()
    if here.name in NAMES:
        sys.exit(ask(here.parent))
    # Of this file, where no command would look.
    del sys.path[0]
    prepare()
    asked = serve(Path(sys.argv[1]))
    end_with(lambda: run(asked))
