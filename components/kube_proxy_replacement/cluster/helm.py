"""Helm's own work, done by the `helm` program: a release rolled back, upgraded with its owner's values, uninstalled.

Found on the PATH. It is given nothing that its command line, which everybody on the machine can read, mustn't show: the
kubeconfig goes through a file, the context through the environment. Of the person's own settings for Helm none counts
(another namespace, API server, storage driver, plugins): the release and the cluster are those of the stack.

Flags and variables: helm.sh/docs/helm/helm_rollback, helm_upgrade and helm (HELM_KUBECONTEXT, HELM_*_HOME).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import trees
from .errors import ProcedureError

OLDEST = (3, 14)
"""The oldest version of Helm that this relies on."""

_GET_ONE = f"Install Helm {OLDEST[0]}.{OLDEST[1]} or newer (helm.sh/docs/intro/install)"

_SECONDS_TO_SAY = 30.0
_SECONDS_MORE = 30.0
"""Over the deadline that Helm itself keeps."""

_LONGEST = 800
"""Characters of Helm's words that are shown."""

_ALL_REVISIONS = ("--history-max", "0")
"""They stay: the way back to the owner's may be among them."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Helm:
    """The program, and the cluster that it works on. Nothing is known of Pulumi here.

    Attributes:
        program: where it is; version: as it says.
        kubeconfig: a kubeconfig's content, or None for the ambient one; context: its name, or None for the current one.
    """

    program: str
    version: tuple[int, int]
    kubeconfig: str | None = field(default=None, repr=False)
    context: str | None = None

    @classmethod
    def find(cls, kubeconfig: str | None = None, context: str | None = None) -> Helm:
        """Looks on the PATH; talks to no cluster.

        Raises ProcedureError where there is none, or it is too old, with what to do about it. What was changed, and
        what it was needed for, the caller knows.
        """
        program = shutil.which("helm")
        if program is None:
            raise ProcedureError(f"The program `helm` isn't on the PATH. {_GET_ONE}.")
        try:
            said = subprocess.run(
                [program, "version", "--template", "{{.Version}}"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS_TO_SAY,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ProcedureError(f"{program} doesn't run: {_bounded(str(error))} {_GET_ONE}.") from None
        found = re.match(r"\s*v?(\d+)\.(\d+)\.", said.stdout)
        if said.returncode or found is None:
            raise ProcedureError(f"{program} doesn't say which version of Helm it is. {_GET_ONE}.")
        version = (int(found[1]), int(found[2]))
        if version < OLDEST:
            raise ProcedureError(f"{program} is Helm {version[0]}.{version[1]}, which is too old. {_GET_ONE}.")
        return cls(program, version, kubeconfig, context)

    def rollback(self, namespace: str, release: str, revision: int, *, timeout: float) -> None:
        """Makes a new revision of the release with the chart and the values of that one. Doesn't wait for pods.

        Raises ProcedureError with Helm's own words.
        """
        self._run(f"to revision {revision}", timeout, "rollback", namespace, release, str(revision), *_ALL_REVISIONS)

    def upgrade(
        self,
        namespace: str,
        release: str,
        chart: Path,
        values: Path,
        *,
        description: str,
        timeout: float,
    ) -> None:
        """Gives the release this chart (a folder) and these values alone (a YAML file). Doesn't wait for pods.

        Raises ProcedureError with Helm's own words.
        """
        more = [str(chart), "--reset-values", "--values", str(values), "--description", description, *_ALL_REVISIONS]
        self._run("with the values that were given", timeout, "upgrade", namespace, release, *more)

    def rendered(self, namespace: str, release: str, chart: Path, values: Path, *, timeout: float) -> str:
        """The objects that an upgrade with this chart and these values alone would give the cluster, YAML.

        Nothing is changed; the API server is asked what it knows, as in the upgrade itself. Raises ProcedureError.
        """
        more = [str(chart), "--reset-values", "--values", str(values), "--dry-run=server", "--output", "json"]
        said = self._run("as a dry run", timeout, "upgrade", namespace, release, *more)
        try:
            return str(json.loads(said)["manifest"])
        except (ValueError, KeyError, TypeError):
            raise ProcedureError("`helm upgrade --dry-run` printed no release.") from None

    def uninstall(self, namespace: str, release: str, *, timeout: float) -> None:
        """Removes the release with all of its objects and revisions, whatever its status.

        Raises ProcedureError with Helm's own words.
        """
        self._run("", timeout, "uninstall", namespace, release)

    def _run(self, what: str, timeout: float, verb: str, namespace: str, release: str, *more: str) -> str:
        title = f"`helm {verb}` of release {namespace}/{release} {what}".rstrip()
        options = ["--namespace", namespace, "--timeout", f"{timeout:.0f}s", *more]
        with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:
            try:
                done = subprocess.run(
                    [self.program, verb, release, *options],
                    env=self._environment_in(Path(folder)),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=timeout + _SECONDS_MORE,
                    check=False,
                    preexec_fn=_ended_with_us(),
                )
            except subprocess.TimeoutExpired:
                raise ProcedureError(f"{title} didn't end within {timeout + _SECONDS_MORE:.0f} s.") from None
            except OSError as error:
                raise ProcedureError(f"{title} couldn't be started: {_bounded(str(error))}.") from None
        if done.returncode:
            raise ProcedureError(f"{title} failed: {_words(done.stderr, self.kubeconfig)}")
        return done.stdout

    def _environment_in(self, folder: Path) -> dict[str, str]:
        """Helm's own files lie in a folder that goes afterwards, and so does the kubeconfig."""
        its = _environment() | {f"HELM_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        if self.context:
            its["HELM_KUBECONTEXT"] = self.context
        if self.kubeconfig is not None:
            file = folder / "kubeconfig"
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(self.kubeconfig)
            its["KUBECONFIG"] = str(file)
        return its


def _environment() -> dict[str, str]:
    """Ours without anybody's settings for Helm, and without what the step itself was told: a kubeconfig's content."""
    others = ("HELM_", "KUBE_PROXY_REPLACEMENT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def _ended_with_us() -> Callable[[], None] | None:
    """What asks the kernel to end Helm where we are killed: a run that is dead changes nothing more."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded here: between fork and exec there is room for little more than the call

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask_kernel


def _words(text: str, kubeconfig: str | None) -> str:
    """Helm's own words: from its «Error:» on, without warnings and what a program that signs in has said."""
    error = text.rpartition("Error: ")[2] if "Error: " in text else text
    for secret in _secrets(kubeconfig):
        error = error.replace(secret, "[hidden]")
    return _bounded(" ".join(error.split())) or "it said nothing"


def _secrets(kubeconfig: str | None) -> list[str]:
    """Every text under a user of the kubeconfig that is long enough to be a credential, the longest first."""
    if kubeconfig is None:
        return []
    try:
        users = (yaml.safe_load(kubeconfig) or {}).get("users") or []
    except (yaml.YAMLError, AttributeError):
        return []
    found = {text for user in users if isinstance(user, Mapping) for text in trees.texts(user.get("user"))}
    return sorted((text for text in found if len(text) > 6), key=len, reverse=True)


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
