"""Become a command that the kernel ends as soon as its parent is gone.

Run as a script: `python launch.py PARENT_PID COMMAND...`. It uses the standard library alone, so
that it starts in milliseconds and stands no risk of running Python code between fork and exec.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGKILL to this process when the thread that started it ends.

    `parent` is the parent's process id; this process ends at once when that one is gone already.
    Elsewhere than on Linux it does nothing.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Become the command; exits with 127 when it cannot be run."""
    parent, *command = arguments
    die_with_parent(int(parent))
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own
    except OSError as exc:
        sys.stderr.write(f"{command[0]} cannot be run: {exc.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
