"""Local charts: folders, archives, and everything that can be wrong with them.

`write_chart` and `packed` are used by the other tests of charts.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from kube_proxy_replacement.chart import Chart, ChartError, load

VALUES = """\
# -- which agent
image:
  repository: example/agent
  tag: v1
kubeProxyReplacement: "false"
resources: {}
"""

FILES: Mapping[str, str] = {
    "Chart.yaml": "apiVersion: v2\nname: cilium\nversion: 1.18.6\nappVersion: 1.18.6\n",
    "values.yaml": VALUES,
    "values.schema.json": '{"properties": {"image": {"type": "object"}}}',
    "templates/configmap.yaml": 'a: {{ .Values.image.tag }}\nb: {{ tpl (.Files.Get "files/run.bash") . }}\n',
    "templates/_helpers.tpl": '{{ define "x" }}{{ .Values.resources | toYaml }}{{ end }}',
    "files/run.bash": "echo {{ .Values.fromScript }}",
    "files/board.json": '{"title": "no values in here"}',
    "charts/sub/Chart.yaml": "name: sub\nversion: 1.0.0\n",
    "charts/sub/templates/a.yaml": "{{ .Values.ofSubchart }}",
}


def write_chart(folder: Path, changes: Mapping[str, str | None] | None = None) -> Path:
    """Writes a small chart; a file that is None in `changes` is left out."""
    for name, text in {**FILES, **(changes or {})}.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


def packed(changes: Mapping[str, str | None] | None = None, *, top: str = "cilium") -> bytes:
    """The same chart as `helm package` packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in {**FILES, **(changes or {})}.items():
            if text is not None:
                member = tarfile.TarInfo(f"{top}/{name}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue())


def refused(chart: str, version: str | None, folder: Path) -> ChartError:
    """The error that loading ends with."""
    with pytest.raises(ChartError) as caught:
        load(chart, version, folder=folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{caught.value.setting}: ")
    return caught.value


def check(chart: Chart) -> None:
    """It is the small chart, whole."""
    assert (chart.name, chart.version, chart.app_version) == ("cilium", "1.18.6", "1.18.6")
    assert chart.title == "cilium 1.18.6"
    assert chart.values["image"] == {"repository": "example/agent", "tag": "v1"}
    assert chart.values_text == VALUES
    assert chart.schema == {"properties": {"image": {"type": "object"}}}
    # the script is there because a template reads it, the board isn't because it has no values in it
    assert sorted(chart.templates) == ["files/run.bash", "templates/_helpers.tpl", "templates/configmap.yaml"]


def test_a_folder_relative_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chart(tmp_path / "project" / "charts" / "cilium")
    monkeypatch.chdir("/")
    for written in ("charts/cilium", "./charts/cilium/", str(tmp_path / "project/charts/cilium")):
        check(load(written, None, folder=tmp_path / "project"))


def test_a_folder_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chart(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    check(load("mine", None))


def test_an_archive(tmp_path: Path) -> None:
    (tmp_path / "cilium-1.18.6.tgz").write_bytes(packed())
    check(load("./cilium-1.18.6.tgz", "v1.18.6", folder=tmp_path))


def test_an_archive_whose_names_begin_with_a_dot(tmp_path: Path) -> None:
    (tmp_path / "c.tgz").write_bytes(packed(top="./cilium"))
    check(load("c.tgz", "1.18.6", folder=tmp_path))


def test_only_values_and_chart_yaml_may_be_missing_parts(tmp_path: Path) -> None:
    write_chart(tmp_path, {"values.yaml": None, "values.schema.json": None, "Chart.yaml": "name: a\nversion: 1\n"})
    chart = load(".", None, folder=tmp_path)
    assert (chart.values, chart.values_text, chart.schema, chart.app_version) == ({}, "", None, "")


def test_dependencies_by_name_and_alias(tmp_path: Path) -> None:
    write_chart(
        tmp_path,
        {"Chart.yaml": "name: a\nversion: 1.0.0\ndependencies:\n- name: x\n- name: y\n  alias: z\n- 3\n"},
    )
    assert load(".", None, folder=tmp_path).dependencies == ("x", "z")


def test_another_version_than_the_one_asked_for(tmp_path: Path) -> None:
    write_chart(tmp_path / "c")
    error = refused("c", "1.18.5", tmp_path)
    assert error.setting == "ciliumVersion"
    assert '"1.18.5"' in str(error)
    assert "cilium 1.18.6" in str(error)
    assert "Leave ciliumVersion out or write 1.18.6" in str(error)


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        ("./nowhere", "there is nothing at"),
        ("cilium/cilium", "there is nothing at"),
        ("ftp://example.com/cilium", "no address that charts are read from"),
        ("file:///charts", "no address that charts are read from"),
        ("a\0b", "null"),
        ("x" * 5000, "can't be looked up as a path"),
        ("$(touch gone); 'ü\n", "there is nothing at"),
    ],
)
def test_nothing_there(tmp_path: Path, chart: str, words: str) -> None:
    error = refused(chart, None, tmp_path)
    assert error.setting == "chart"
    assert words in str(error)
    assert "oci://HOST/PATH/cilium" in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Chart.yaml": None}, "there is no Chart.yaml"),
        ({"Chart.yaml": "name: [\n"}, "Chart.yaml isn't YAML"),
        ({"Chart.yaml": "- 1\n"}, "Chart.yaml holds no map"),
        ({"Chart.yaml": "name: cilium\n"}, "Chart.yaml says no version"),
        ({"values.yaml": "a: {\n"}, "values.yaml isn't YAML"),
        ({"values.yaml": "just text\n"}, "values.yaml holds no map"),
        ({"values.yaml": "a: " + "[" * 20000}, "values.yaml isn't YAML"),
        ({"values.yaml": "a: !!python/object/apply:os.getcwd []\n"}, "values.yaml isn't YAML"),
        ({"values.schema.json": "{"}, "values.schema.json isn't JSON"),
    ],
)
def test_a_chart_that_is_broken(tmp_path: Path, changes: Mapping[str, str | None], words: str) -> None:
    write_chart(tmp_path / "c", changes)
    error = refused("c", None, tmp_path)
    assert words in str(error)
    assert "the folder" in str(error)
    (tmp_path / "c.tgz").write_bytes(packed(changes))
    assert words in str(refused("c.tgz", None, tmp_path))


def test_values_that_are_no_text(tmp_path: Path) -> None:
    write_chart(tmp_path)
    (tmp_path / "values.yaml").write_bytes(b"a: \xff\xfe\n")
    assert "values.yaml isn't UTF-8 text" in str(refused(".", None, tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut off"),
        (b"PK\x03\x04 a zip", "not a gzip file"),
        (packed()[:-40], "cut off"),
        (gzip.compress(b"not a tar file, but long enough to look like one" * 40), "not a tar file"),
        (gzip.compress(b""), "not a tar file"),
        (gzip.compress(bytes(129 << 20), 1), "more than 128 MiB when unpacked"),
        (bytes(33 << 20), "bigger than 32 MiB"),
    ],
    ids=["empty", "zip", "cut", "no tar", "empty tar", "bomb", "big"],
)
def test_an_archive_that_can_not_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "c.tgz").write_bytes(content)
    error = refused("c.tgz", None, tmp_path)
    assert words in str(error)
    assert "the archive" in str(error)


def test_an_archive_reaches_nothing_outside(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in (("cilium/Chart.yaml", FILES["Chart.yaml"]), ("cilium/../../escaped", "x")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("cilium/values.yaml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "c.tgz").write_bytes(gzip.compress(buffer.getvalue()))
    chart = load("c.tgz", None, folder=inner)
    assert chart.values == {}
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "c.tgz"]


def test_templates_read_no_file_outside_the_chart(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("{{ .Values.secret }}")
    write_chart(
        tmp_path / "c",
        {"templates/a.yaml": '{{ .Files.Get "../outside" }}{{ .Files.Get "/etc/passwd" }}{{ .Files.Glob "files/*" }}'},
    )
    assert sorted(load("c", None, folder=tmp_path).templates) == [
        "files/run.bash",
        "templates/_helpers.tpl",
        "templates/a.yaml",
        "templates/configmap.yaml",
    ]


@pytest.mark.parametrize("chart", ["", "https://charts.example.com", "oci://registry.example.com/a/cilium"])
@pytest.mark.parametrize("version", [None, "", "  "])
def test_a_chart_from_afar_needs_a_version(tmp_path: Path, chart: str, version: str | None) -> None:
    error = refused(chart, version, tmp_path)
    assert error.setting == "ciliumVersion"
    assert (chart or "https://helm.cilium.io") in str(error)
    assert "pulumi config set ciliumVersion" in str(error)


@pytest.mark.parametrize("scheme", ["https", "oci"])
def test_credentials_in_an_address_are_refused_and_not_shown(tmp_path: Path, scheme: str) -> None:
    error = refused(f"{scheme}://me:hunter2@charts.example.com/cilium?token=hunter2", "1.18.6", tmp_path)
    assert "holds credentials" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        ("https://charts.example.com/cilium-1.18.6.tgz", "the address of an archive"),
        ("https://", "is no address"),
        ("https://charts.example.com:port/", "is no address"),
        ("http://[::1", "is no address"),
        ("oci://", "no address of a chart in a registry"),
        ("oci://registry.example.com", "no address of a chart in a registry"),
        ("oci://registry.example.com/Upper/case", "no address of a chart in a registry"),
        ("oci://registry.example.com/cilium:1.18.6", "holds a tag or a digest"),
        ("oci://registry.example.com/cilium@sha256:00", "holds"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, chart: str, words: str) -> None:
    error = refused(chart, "1.18.6", tmp_path)
    assert error.setting == "chart"
    assert words in str(error)
