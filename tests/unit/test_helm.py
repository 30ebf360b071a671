"""The `helm` program: what it is told and what it isn't, with one that only writes down how it was called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.helm import Helm

TOKEN = "t0ken-that-nobody-may-see"
KUBECONFIG = yaml.safe_dump({"users": [{"name": "me", "user": {"token": TOKEN}}], "clusters": [], "contexts": []})

CALL = f"""\
#!{sys.executable}
import json, os, sys
if sys.argv[1:3] == ["version", "--template"]:
    print(os.environ.get("SAYS", "v3.18.6"))
    sys.exit(int(os.environ.get("VERSION_FAILS", "0")))
file = os.environ.get("KUBECONFIG")
told = {{"words": sys.argv[1:], "environment": dict(os.environ)}}
if file and os.path.isfile(file):
    told |= {{"content": open(file).read(), "mode": oct(os.stat(file).st_mode & 0o777)}}
told |= {{"folder": oct(os.stat(os.path.dirname(os.environ["HELM_DATA_HOME"])).st_mode & 0o777)}}
json.dump(told, open({{calls!r}}, "w"))
print("the chart's notes")
sys.stderr.write(os.environ.get("WORDS", ""))
if os.environ.get("HANGS"):
    import time
    time.sleep(600)
sys.exit(1 if "WORDS" in os.environ else 0)
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with that program alone; the file with what its last call was told."""
    file = tmp_path / "calls"
    program = tmp_path / "bin" / "helm"
    program.parent.mkdir()
    program.write_text(CALL.replace("{calls!r}", repr(str(file))))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    for name in ("KUBECONFIG", "HELM_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    return file


def told(calls: Path) -> Any:
    return json.loads(calls.read_text())


class TestFind:
    def test_on_the_path(self, calls: Path) -> None:
        found = Helm.find()
        assert (found.program, found.version) == (str(calls.parent / "bin" / "helm"), (3, 18))

    def test_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ProcedureError, match=r"`helm` isn't on the PATH\. Install Helm 3\.14 or newer"):
            Helm.find()

    @pytest.mark.parametrize(
        ("says", "serves"), [("v3.14.0", True), ("v3.13.9", False), ("v2.17.0", False), ("v4.0.1", True)]
    )
    def test_how_old(self, calls: Path, monkeypatch: pytest.MonkeyPatch, says: str, serves: bool) -> None:
        monkeypatch.setenv("SAYS", says)
        if serves:
            assert Helm.find().version >= (3, 14)
        else:
            with pytest.raises(ProcedureError, match=r"too old\. Install Helm 3\.14 or newer"):
                Helm.find()

    @pytest.mark.parametrize("environment", [{"SAYS": "hello"}, {"VERSION_FAILS": "1"}])
    def test_one_that_does_not_say_its_version(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ProcedureError, match="doesn't say which version"):
            Helm.find()


class TestWhatItIsTold:
    def test_rollback(self, calls: Path) -> None:
        Helm.find().rollback("kube-system", "cilium", 3, timeout=60)
        options = ["--namespace", "kube-system", "--timeout", "60s"]
        assert told(calls)["words"] == ["rollback", "cilium", *options, "3", "--history-max", "0"]

    def test_upgrade_gives_these_values_alone(self, calls: Path) -> None:
        Helm.find().upgrade("cni", "its", Path("chart"), Path("v.yaml"), description="the owner's", timeout=60)
        words = told(calls)["words"]
        assert words[:2] == ["upgrade", "its"]
        assert words[6:12] == ["chart", "--reset-values", "--values", "v.yaml", "--description", "the owner's"]
        assert not {"--install", "--atomic", "--wait", "--reuse-values"} & set(words)

    def test_uninstall(self, calls: Path) -> None:
        Helm.find().uninstall("kube-system", "cilium", timeout=60)
        assert told(calls)["words"] == ["uninstall", "cilium", "--namespace", "kube-system", "--timeout", "60s"]

    def test_a_kubeconfig_in_a_file_that_only_its_owner_may_read(self, calls: Path, tmp_path: Path) -> None:
        Helm.find(KUBECONFIG, "prod").rollback("kube-system", "cilium", 3, timeout=60)
        its = told(calls)
        assert its["content"] == KUBECONFIG
        assert (its["mode"], its["folder"]) == ("0o600", "0o700")
        assert its["environment"]["HELM_KUBECONTEXT"] == "prod"

    def test_no_credential_on_the_command_line_nor_in_the_environment(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBE_PROXY_REPLACEMENT_KUBECONFIG", KUBECONFIG)
        Helm.find(KUBECONFIG).rollback("kube-system", "cilium", 3, timeout=60)
        its = told(calls)
        assert TOKEN not in json.dumps([its["words"], its["environment"]])

    @pytest.mark.parametrize("fails", [False, True])
    def test_nothing_is_left_lying(
        self, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
    ) -> None:
        if fails:
            monkeypatch.setenv("WORDS", "Error: no")
        try:
            Helm.find(KUBECONFIG).rollback("kube-system", "cilium", 3, timeout=60)
        except ProcedureError:
            assert fails
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_the_ambient_kubeconfig_stays_where_it_is(self, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", "/here:/there")
        Helm.find().rollback("kube-system", "cilium", 3, timeout=60)
        assert told(calls)["environment"]["KUBECONFIG"] == "/here:/there"

    def test_no_setting_of_the_persons_own(self, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NAMESPACE", "DRIVER", "KUBEAPISERVER", "KUBETOKEN", "KUBECONTEXT", "PLUGINS"):
            monkeypatch.setenv(f"HELM_{name}", "other")
        Helm.find().rollback("kube-system", "cilium", 3, timeout=60)
        its = told(calls)["environment"]
        assert sorted(name for name in its if name.startswith("HELM_")) == [
            "HELM_CACHE_HOME",
            "HELM_CONFIG_HOME",
            "HELM_DATA_HOME",
        ]


class TestWhatItSays:
    def test_helms_own_words(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("WORDS", "WARNING: readable by all\nError: release has no 7 version\n")
        with pytest.raises(ProcedureError) as error:
            Helm.find().rollback("kube-system", "cilium", 7, timeout=60)
        said = "`helm rollback` of release kube-system/cilium to revision 7 failed: release has no 7 version"
        assert str(error.value) == said
        assert capfd.readouterr() == ("", "")

    def test_no_credential_is_in_them(self, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORDS", f"Error: 401 for {TOKEN}" + 5000 * "x")
        with pytest.raises(ProcedureError) as error:
            Helm.find(KUBECONFIG).rollback("kube-system", "cilium", 7, timeout=60)
        assert TOKEN not in str(error.value)
        assert "401 for [hidden]" in str(error.value)
        assert len(str(error.value)) < 1000

    def test_it_is_not_shown_with_its_kubeconfig(self, calls: Path) -> None:
        assert TOKEN not in repr(Helm.find(KUBECONFIG))

    def test_one_that_does_not_end(self, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HANGS", "1")
        monkeypatch.setattr("kube_proxy_replacement.cluster.helm._SECONDS_MORE", 0.5)
        with pytest.raises(ProcedureError, match=r"didn't end within 2 s\."):
            Helm.find(KUBECONFIG).rollback("kube-system", "cilium", 7, timeout=1)
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_ends_with_the_run_that_started_it(calls: Path) -> None:
    code = (
        "from kube_proxy_replacement.cluster.helm import Helm\n"
        "Helm.find().rollback('kube-system', 'cilium', 7, timeout=600)"
    )
    ours = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"HANGS": "1"})
    deadline = time.monotonic() + 20
    while not (calls.exists() and calls.read_text().endswith("}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{ours.pid}/task/{ours.pid}/children").read_text().split()
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    assert len(children) == 1
    while runs(children[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(children[0])


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
