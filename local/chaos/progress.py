"""How far a campaign has come, so that the next call goes on where this one stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from local import clone

_WHAT = (clone.ROOT / "components", clone.ROOT / "local")


@dataclass(frozen=True)
class Result:
    """One run that has ended.

    Attributes:
        plan: what was drawn, in words; fell: the step that the instant fell into, "" where the run was over before.
        problems: [] where it converged and nothing was lost.
        changes: how many changes of the cluster were followed; unseen: those of them that nobody could watch.
    """

    number: int
    plan: str
    fell: str
    what: str
    problems: list[str]
    seconds: float
    changes: int
    unseen: int


class Progress:
    """The results of one seed, for one version of the program and of this; another version begins anew."""

    def __init__(self, file: Path, seed: int) -> None:
        self._file = file
        self._head = {"seed": seed, "version": version()}
        self.results: dict[int, Result] = {}
        if file.exists():
            content = json.loads(file.read_text())
            if content["head"] == self._head:
                self.results = {its["number"]: Result(**its) for its in content["results"]}

    def note(self, result: Result) -> None:
        self.results[result.number] = result
        content = {"head": self._head, "results": [asdict(its) for its in self.results.values()]}
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=1))
        draft.replace(self._file)

    def forget(self) -> None:
        self.results.clear()
        self._file.unlink(missing_ok=True)


def version() -> str:
    """A digest of the program and of what disturbs it."""
    digest = hashlib.sha256()
    for folder in _WHAT:
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(clone.ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
