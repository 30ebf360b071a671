"""Why a pod doesn't run, in the words of the container that is at fault: what it said last before it ended.

Most of Cilium's containers leave the end of their log in their status (terminationMessagePolicy FallbackToLogsOnError);
of others the API server is asked for the log, that of the run before this one. Only a line or two are shown, and none
of what looks like a credential in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .api import Api, Object
from .errors import ProcedureError

LONGEST = 400
"""Characters of a container's words that are shown."""

_LINES = 20
"""Of a log, from its end."""

_AT_FAULT = re.compile(r"\blevel=(error|fatal|panic)\b|^[EF]\d{4} |^panic: |^Error: ")
_PARTS = re.compile(r'\b(msg|error)=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_HIDDEN = [
    (re.compile(r"-----BEGIN .*", re.S), "[hidden]"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "[hidden]"),  # a JSON web token
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 [hidden]"),
    (re.compile(r"://[^/\s:@]+:[^/\s@]+@"), "://[hidden]@"),
    (
        re.compile(
            r"(?i)([\w-]*(?:token|passw(?:or)?d|secret|credential|api[-_]?key)[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;]+"
        ),
        r"\1[hidden]",
    ),
]


def of(api: Api, namespace: str, name: str) -> str:
    """Of the pod of this name: which container, in what state, and its words; "" where nothing is wrong to be seen."""
    try:
        pod = api.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except ProcedureError:
        return ""
    if pod is None:
        return "it was deleted meanwhile"
    status = pod.get("status", {})
    for its in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if not _goes_well(its):
            return f"container {its['name']}: {_of_container(api, namespace, name, its)}"
    return _not_scheduled(status)


def said(text: str) -> str:
    """What went wrong by a log's last lines: of its last error the message, and its cause where it names one."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if _AT_FAULT.search(line)), lines[-1] if lines else "")
    parts = {key: (quoted or bare).replace('\\"', '"') for key, quoted, bare in _PARTS.findall(line)}
    words = ": ".join(parts[key] for key in ("msg", "error") if parts.get(key)) or line
    words = " ".join(hidden(words).split())
    return words if len(words) <= LONGEST else f"… {words[-LONGEST:]}"


def hidden(text: str) -> str:
    """A text without what looks like a credential."""
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text


def _of_container(api: Api, namespace: str, pod: str, its: Object) -> str:
    state = its.get("state") or {}
    waits, ended = state.get("waiting") or {}, state.get("terminated") or {}
    last = ended or (its.get("lastState") or {}).get("terminated") or {}
    reason = waits.get("reason") or ended.get("reason") or ("runs, but isn't ready" if "running" in state else "")
    if last:
        words = said(last.get("message") or "") or _logged(api, namespace, pod, its["name"], previous=not ended)
        code = f"exit code {last['exitCode']}" if last.get("exitCode") is not None else ""
        return ", ".join(part for part in (reason, code) if part) + (f", its last words: {words}" if words else "")
    if "running" in state:
        words = _logged(api, namespace, pod, its["name"], previous=False)
        return reason + (f"; its log ends: {words}" if words else "")
    words = said(waits.get("message") or "")
    return f"{reason}: {words}" if words else str(reason)


def _goes_well(its: Object) -> bool:
    state = its.get("state") or {}
    if its.get("ready") or (state.get("terminated") or {}).get("exitCode") == 0:
        return True
    # one that waits for those before it says nothing of its own
    waits = (state.get("waiting") or {}).get("reason")
    return waits in ("PodInitializing", "ContainerCreating") and not (its.get("lastState") or {}).get("terminated")


def _not_scheduled(status: Object) -> str:
    words: Iterator[str] = (
        str(condition.get("message") or condition.get("reason") or "")
        for condition in status.get("conditions") or []
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    )
    return next((f"no node takes it: {said(text)}" for text in words), "")


def _logged(api: Api, namespace: str, pod: str, container: str, *, previous: bool) -> str:
    """ "" where there is no log, or these credentials mayn't read it."""
    try:
        return said(api.log(namespace, pod, container, previous=previous, lines=_LINES))
    except ProcedureError:
        return ""
