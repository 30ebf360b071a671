"""Where a clone keeps what isn't in Git."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

FOLDER: Final = ROOT / ".local"
"""All that `make up` and `make up-real` make, but for the environment: clusters, states, secrets."""

CLUSTER: Final = FOLDER / "cluster"
RECORDS: Final = CLUSTER / "run"
"""Which processes were started."""
REAL: Final = FOLDER / "real"
"""The cluster of real nodes."""
SWITCHED: Final = FOLDER / "switched"
"""There when `make up` has gone all the way once: from then on the mode is the user's."""

VENV: Final = ROOT / ".venv"
LOCK: Final = ROOT / "requirements.lock"

STACK: Final = "local"
STACK_FILE: Final = ROOT / "stacks" / f"Pulumi.{STACK}.yaml"
