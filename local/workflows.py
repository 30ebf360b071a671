"""``python -m local.workflows``: the GitHub workflows in ci/github read by actionlint, their shell by shellcheck."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from local import clone
from local.toolchain import ToolchainError, ensure

FOLDER: Final = clone.ROOT / "ci" / "github" / "workflows"


def main() -> int:
    """Exit code 0 where neither has anything to say."""
    try:
        actionlint = ensure(["actionlint"]).actionlint
    except ToolchainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return lint(actionlint, sorted(FOLDER.glob("*.yml")))


def lint(actionlint: Path, files: list[Path]) -> int:
    """What it says goes to standard output."""
    shellcheck = Path(sys.executable).with_name("shellcheck")  # its package puts it beside Python
    command: list[str | Path] = [actionlint, "-no-color", "-shellcheck", shellcheck, "-pyflakes=", *files]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
