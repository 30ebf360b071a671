"""The one error of this package."""

from __future__ import annotations


class ChartError(Exception):
    """A chart can't be found, read or used. Its text is shown to the user as it is.

    The text begins with the setting to look at, says what was tried and why it failed, and ends with
    what to write instead. It holds no credentials: addresses are shown by `address.shown`.

    Attributes:
        setting: `chart` or `ciliumVersion`.
    """

    def __init__(self, setting: str, problem: str, remedy: str) -> None:
        super().__init__(f"{setting}: {problem}. {remedy}")
        self.setting = setting
