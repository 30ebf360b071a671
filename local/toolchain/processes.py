"""Programs that we start and that mustn't outlive us."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 10

# Not SIGINT: what a shell starts in the background ignores it, and what that starts does too.
_END = signal.SIGTERM


def end_with_parent(number: signal.Signals = _END) -> Callable[[], None] | None:
    """What ``Popen`` runs in the child so that the kernel ends it, by this signal, should we be killed."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec there is room for little more than the call.
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, number)

    return ask_kernel


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that we started; kill it if it takes its time."""
    process.send_signal(_END)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
