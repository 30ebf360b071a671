"""``python -m local.toolchain [ensure] [NAME…]``: what is there and what is missing; ``ensure`` brings it."""

import sys

from local.toolchain import NAMES, ToolchainError, ensure, overview


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(f"{__doc__}\nNames: {', '.join(NAMES)}\n")
        return 0
    bring = arguments[:1] == ["ensure"]
    names = arguments[1:] if bring else arguments
    try:
        if bring:
            ensure(names or None, lambda line: print(line, flush=True))
        for line in overview(names or None):
            print(line)
    except ToolchainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. What was built so far is kept; the next run goes on from there.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
