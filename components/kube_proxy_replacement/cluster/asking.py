"""Everything that an agent is asked, in one exec: a constant shell line, and its answer taken apart.

An exec is a stream through the API server and a kubelet, and a start in the container: one an agent costs a third of
six. The chart itself runs `sh` and `grep -E` in the agent's image (its init containers and files/agent in cilium/cilium
install/kubernetes), and nothing else is needed. Nothing of a setting is ever in the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import rules
from .errors import ApiError
from .exec import ExecResult

_MARK = "kube-proxy-replacement"
_END = re.compile(rf"^{_MARK}: (.+) (\d+)\n", re.MULTILINE)
_END_OF_COMPLAINT = re.compile(rf"^{_MARK}: (.+)\n", re.MULTILINE)

_FUNCTIONS = (
    # behind what each part printed: its name and its exit code; behind what it complained of: its name
    rf"""end() {{ printf '\n{_MARK}: %s %s\n' "$1" "$?"; printf '\n{_MARK}: %s\n' "$1" >&2; }}; """
    # a node with 10 000 Services has 20 MB of rules: they are counted where they are
    rf"own() {{ grep -cE '{rules.OWN_LINE}'; }}; "
)

_NOT_FOUND = 127
"""A shell's exit code for a program that isn't there (POSIX, Shell Command Language, 2.8.2)."""

_LONGEST = 300


@dataclass(frozen=True)
class Part:
    """One question.

    Attributes:
        command: constant words for a shell, without a single quote; also its name in the answer and in messages.
        counted: how many lines of kube-proxy's it prints is wanted, not the lines.
    """

    command: str
    counted: bool = False

    @property
    def shell(self) -> str:
        end = f"end '{self.command}'"
        if not self.counted:
            return f"{self.command}; {end}"
        # its own exit code goes past grep, whose 1 says no more than that there are none
        return f"{{ {{ {self.command}; {end} >&3; }} | own; }} 3>&1; end '{_count_of(self.command)}'"


STATUS = Part("cilium-dbg status -o json")
ENDPOINTS = Part("cilium-dbg endpoint list -o json")
RULES = tuple(
    Part(save, counted=True)
    for save in ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")
)
"""Both backends, both families: the agent shares its node's network namespace, and its image has all four."""

HEALTH = Part(
    'timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/10256 '
    r'&& printf %b \"GET /healthz HTTP/1.0\r\n\r\n\" >&3 && head -n1 <&3"'
)
"""Port 10256 of the agent's node, which kube-proxy or the agent answers: the HTTP status line. The chart runs `bash` in
the agent's image too (its postStart hook)."""
TABLES = Part("cilium-dbg bpf lb list")
"""The service table in the node's kernel."""


def command(parts: Sequence[Part]) -> list[str]:
    """What to run in the agent's container."""
    return ["sh", "-c", _FUNCTIONS + "; ".join(part.shell for part in parts)]


@dataclass(frozen=True)
class _Said:
    text: str
    code: int
    complaint: str


class Answers:
    """What one agent said to each part.

    Args:
        node: the agent's node, for messages.
        result: of `command`.
    """

    def __init__(self, node: str, result: ExecResult) -> None:
        self._node = node
        self._result = result
        complaints = {found[1]: text for found, text in _taken_apart(_END_OF_COMPLAINT, result.stderr)}
        self._said: Mapping[str, _Said] = {
            found[1]: _Said(text, int(found[2]), complaints.get(found[1], ""))
            for found, text in _taken_apart(_END, result.stdout)
        }

    def text(self, part: Part) -> str:
        """What it printed. Raises ApiError with its exit code and what it complained of where it failed."""
        return self._of(part.command)

    def count(self, part: Part) -> int:
        """How many lines of kube-proxy's a counted part printed. Raises ApiError as `text` does."""
        count = self._of(_count_of(part.command), none_found=1)  # first: without grep, the part is cut off too
        self._of(part.command)
        return int(count)

    def _of(self, name: str, none_found: int = 0) -> str:
        said, where = self._said.get(name), f"{name} on {self._node}"
        if said is None:
            ended = f"the shell ended before it, with exit code {self._result.exit_code}"
            raise _error(f"{where} gave no answer: {ended}", self._result.stderr)
        if said.code not in (0, none_found):
            absent = ", no such program in the agent's container" if said.code == _NOT_FOUND else ""
            complaint = said.complaint.strip() or self._result.stderr
            raise _error(f"{where} ended with exit code {said.code}{absent}", complaint)
        return said.text


def _error(words: str, complaint: str) -> ApiError:
    complaint = " ".join(_END_OF_COMPLAINT.sub("", complaint).split())
    return ApiError(f"{words}: {complaint}"[:_LONGEST] if complaint else words, status=0, reason="")


def _count_of(name: str) -> str:
    return f"count of {name}"


def _taken_apart(end: re.Pattern[str], text: str) -> list[tuple[re.Match[str], str]]:
    """Each mark, and what stands before it and behind the one before it."""
    found, since = [], 0
    for mark in end.finditer(text):
        found.append((mark, text[since : mark.start()]))
        since = mark.end()
    return found
