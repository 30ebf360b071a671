"""The program's own way: real `pulumi up` and `pulumi destroy` of the repository's `__main__.py`."""

from pathlib import Path
from typing import Literal

from local.real.engine import STACK, RealEngine
from local.real.way import Step, Way


class Program:
    """Its commands as steps of a way."""

    def __init__(self, way: Way, engine: RealEngine) -> None:
        self._way, self._engine = way, engine

    def up(self, mode: Literal["coexist", "replace"]) -> Step:
        """A real `pulumi up` in a mode; the outputs are written beside its log."""

        def action(log: Path) -> int:
            self._engine.set("mode", mode)
            if code := self._engine.run(log, "up", "--yes", "--skip-preview", "--stack", STACK):
                return code
            outputs = self._engine.must("stack", "output", "--json", "--stack", STACK)
            log.with_suffix(".outputs.json").write_text(outputs)
            return 0

        return self._way.step(f"pulumi up, {mode}", action)

    def unchanged(self) -> Step:
        """A preview that must show no change."""
        arguments = ("preview", "--expect-no-changes", "--stack", STACK)
        return self._way.step("preview, no change", lambda log: self._engine.run(log, *arguments))

    def destroy(self) -> Step:
        """A real `pulumi destroy`."""
        arguments = ("destroy", "--yes", "--skip-preview", "--stack", STACK)
        return self._way.step("pulumi destroy", lambda log: self._engine.run(log, *arguments))
