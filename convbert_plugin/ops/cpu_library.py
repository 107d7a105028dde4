"""C++ for a CPU (native/), built by the compiler of the machine where it is first used.

It is built once for each processor and version, in seconds, into the user's cache: nothing to
install, and nothing to rebuild after a change of torch. Where there is no compiler nothing breaks.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, Optional

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "native"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-exceptions", "-fno-rtti", "-fPIC", "-shared")
# A hung compiler must not hang a training.
SECONDS = 120
# How many pointers each takes, after the shape and the type of its numbers.
FUNCTIONS = {
    "convbert_span_forward": 4,
    "convbert_span_backward": 7,
    "convbert_depthwise_forward": 4,
    "convbert_depthwise_backward": 7,
    "convbert_residual_norm_forward": 8,
    "convbert_residual_norm_backward": 7,
    "convbert_gelu_forward": 3,
    "convbert_gelu_backward": 5,
    "convbert_dropped_softmax_forward": 3,
    "convbert_dropped_softmax_backward": 3,
}


class Library(NamedTuple):
    """The functions, or why there are none."""

    functions: Optional[ctypes.CDLL]
    lacks: Optional[str]


@functools.cache
def library() -> Library:
    try:
        return Library(_load(_built(_compiler())), None)
    except (OSError, subprocess.SubprocessError) as error:
        lacks = _told(error)
    logger.warning(
        "layers, their convolutions first, take longer without C++ built here: %s", lacks
    )
    return Library(None, lacks)


def _compiler() -> str:
    named = os.environ.get("CXX")
    for name in [named] if named else COMPILERS:
        if path := shutil.which(name):
            return path
    wanted = f"CXX={named} is none" if named else "there is none"
    raise OSError(f"a C++ compiler is needed, {wanted} (on Debian and Ubuntu: apt install g++)")


def _built(compiler: str) -> Path:
    path = _cache() / f"convolutions-{_fingerprint(compiler)}.so"
    if not path.exists():
        logger.info("building C++ of the layers for this processor, once: %s", path)
        # Whole or not at all, also where several processes build it at once.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            command = [compiler, *FLAGS, str(SOURCES / "library.cpp"), "-o", str(part)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
            part.replace(path)
    return path


def _cache() -> Path:
    """A folder that is this user's alone: what lies in it is run."""
    of_user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    in_temporary = Path(tempfile.gettempdir()) / f"convbert_plugin-{os.getuid()}"
    for folder in (Path(of_user) / "convbert_plugin", in_temporary):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        status = folder.stat()
        private = status.st_uid == os.getuid() and not status.st_mode & 0o022
        if private and os.access(folder, os.W_OK):
            return folder
    raise OSError(f"neither {of_user} nor {in_temporary.parent} can be written to")


def _fingerprint(compiler: str) -> str:
    """Differs where the sources, the way to build them or the processor do."""
    # One compiler goes by many names: c++ and g++, in /bin and in /usr/bin.
    parts = [os.path.realpath(compiler), *FLAGS, _processor()]
    parts += [path.read_text() for path in sorted(SOURCES.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines if line.startswith(("model", "flags")))


def _load(path: Path) -> ctypes.CDLL:
    functions = ctypes.CDLL(str(path))
    for name, pointers in FUNCTIONS.items():
        function = getattr(functions, name)
        function.restype = None
        function.argtypes = [ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * pointers]
    return functions


def _told(error: Exception) -> str:
    told = getattr(error, "stderr", None) or str(error)
    errors = [line for line in told.splitlines() if "error" in line] or told.splitlines()
    return errors[0] if errors else type(error).__name__
