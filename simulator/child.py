"""A child process that doesn't outlive the thread that started it, however that ends."""

import os
import sys
from collections.abc import Sequence

# Asks the kernel for SIGKILL at the parent's death (1 is PR_SET_PDEATHSIG), then becomes the program. Done by a program of
# its own: code of ours between fork and exec (`preexec_fn`) may hang or abort where other threads hold locks.
_BECOME = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """A command that becomes `command` (its program by full path) in a child of this process. Linux only; else as given."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]
