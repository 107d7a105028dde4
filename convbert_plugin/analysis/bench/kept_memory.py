"""Memory that a variant lets go of stays with its process.

Else glibc gives some back to the system, and how much the next variant must ask for again hangs on
what ran before it: from none to 130,000 pages a forward pass of small, a fifth of its time.
"""

import ctypes

# glibc's malloc.h; larger blocks than the second says it cannot keep.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER, LARGEST_KEPT = -1, 32 << 20

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_THRESHOLD_": str(LARGEST_KEPT),
}
"""The same for a process that is yet to be started."""


def keep_freed_memory() -> None:
    """From now on, in this process; with another library than glibc nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
