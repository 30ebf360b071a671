"""Run as a program: note down this very process, then become another program.

What is started is noted before it runs, so that an interruption at any instant leaves nothing that
can't be found. Only the standard library, and little of it: this runs once for each program.
"""

import os
import sys


def main(record: str, command: list[str]) -> None:
    """Write ``PID START-TIME`` to the record, whole or not at all, and become the command."""
    with open("/proc/self/stat") as stat:  # noqa: PTH123 - a path library isn't worth its import here
        started = stat.read().rpartition(")")[2].split()[19]
    draft = f"{record}.draft"
    with open(draft, "w") as stream:  # noqa: PTH123
        stream.write(f"{os.getpid()} {started}\n")
    os.replace(draft, record)  # noqa: PTH105
    os.execv(command[0], command)  # noqa: S606 - a list that we wrote, and no shell


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
