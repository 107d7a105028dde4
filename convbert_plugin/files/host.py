"""What a process runs on and of, as far as files and git say it."""

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Optional

GIT_SECONDS = 10


def processor_name() -> str:
    """As the system calls it."""
    words = _said_of_processor()
    name = words.get("model name", platform.processor() or platform.machine())
    family = ", ".join(f"{key} {words[key]}" for key in ("cpu family", "model") if key in words)
    return f"{name} ({family}), {os.cpu_count()} CPUs" if family else name


def processor_maker() -> str:
    """As the processor itself calls it, such as GenuineIntel; empty where the system hides it."""
    return _said_of_processor().get("vendor_id", "")


def _said_of_processor() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in named.items()}


@functools.cache
def commit_of(checkout: Path) -> Optional[str]:
    """The commit that a folder is a checkout of, with "-dirty" behind it where that was changed.

    None of a folder that is none, or is part of another one, and where git is absent. What it is
    the first time, it stays for the process.
    """
    if not (checkout / ".git").exists():
        return None
    # Who calls may be a hook of git's, which names another repository by these.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    words = ("--no-optional-locks", "-C", str(checkout), "describe", "--always", "--exclude=*")
    try:
        done = subprocess.run(
            ["git", *words, "--dirty", "--abbrev=40"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
