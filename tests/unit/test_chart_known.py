"""Which values a chart knows, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.chart import KnownValues, UnknownValue, load
from tests.unit.test_chart_loading import write_chart

VALUES = """\
kubeProxyReplacement: "false"
k8sServiceHost: ""
enabled: true
image:
  tag: v1
  override: ~
bpf:
  lbMapMax: 65536
  # -- masquerade
  # masquerade: false
loadBalancer:
  l7:
    backend: disabled
# sessionAffinity: false
hubble:
  enabled: true
  relay:
    enabled: false
  ui:
    enabled: false
extraConfig: {}
#  my-config: "1234"
podLabels: {}
tolerations:
  - operator: Exists
nodeSelector:
  kubernetes.io/os: linux
affinity:
  podAntiAffinity:
    required: []
labels: ~
rate: ~
format: ~
updateStrategy:
  type: RollingUpdate
  rollingUpdate:
    maxUnavailable: 2
"""

SCHEMA = """\
{"type": "object", "properties": {
  "fromSchema": {"type": "object", "properties": {"a": {"type": "string"}}},
  "open": {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
  "patterns": {"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}},
  "closed": {"type": "object", "additionalProperties": false},
  "bare": {"type": ["null", "object"]},
  "referred": {"$ref": "#/definitions/x"},
  "either": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"b": {}}}]},
  "image": {"properties": {"override": {"type": ["null", "string"]}}},
  "rate": {"type": ["null", "integer"]},
  "format": {"type": ["null", "object"]}
}}
"""

TEMPLATE = """\
{{ .Values.loadBalancer.mode }}{{ get .Values.loadBalancer "algorithm" }}
{{ with .Values.nodeSelector }}{{ toYaml . }}{{ end }}{{ .Values.affinity | toYaml }}
{{ if .Values.tunnel }}{{ fail "tunnel has been removed,\\n  use routingMode" }}{{ end }}
{{ if .Values.proxy.prometheus.port }}{{ fail "proxy.prometheus has been removed" }}{{ end }}
{{ if .Values.hubble.enabled }}{{ if not .Values.hubble.peer }}{{ fail "peer is needed" }}{{ end }}{{ end }}
{{ if eq .Values.kubeProxyReplacement "x" }}{{ fail "must be true or false" }}{{ end }}
{{ .Values.onlyInTemplate }}{{ .Values.partly.known }}
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> KnownValues:
    folder = tmp_path_factory.mktemp("chart")
    write_chart(folder, {"values.yaml": VALUES, "values.schema.json": SCHEMA, "templates/configmap.yaml": TEMPLATE})
    return KnownValues(load(str(folder), None))


def at(path: str, value: Any = 1) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "path",
    [
        "kubeProxyReplacement",  # values.yaml
        "bpf.lbMapMax",
        "bpf.masquerade",  # commented
        "sessionAffinity",
        "loadBalancer.mode",  # templates
        "loadBalancer.algorithm",
        "onlyInTemplate",
        "onlyInTemplate.anything",
        "hubble.peer",
        "partly.known",
        "fromSchema.a",  # schema
        "either.b",
        "open.anything",  # anything goes
        "patterns.anything",
        "bare.anything",
        "referred.anything",
        "extraConfig.any-thing",
        "podLabels.x",
        "nodeSelector.disktype",
        "affinity.nodeAffinity.x.y",
        "labels.anything",
        "format.anything",
        "global.anything",
        "updateStrategy.type",
    ],
)
def test_known(known: KnownValues, path: str) -> None:
    assert known.unknown(at(path)) == []
    assert known.unknown(at(path, None)) == []
    assert known.unknown(at(path, [{"a": 1}])) == []
    assert known.knows(path)


@pytest.mark.parametrize(
    ("path", "unknown", "nearest"),
    [
        ("kubeProxyReplacment", "kubeProxyReplacment", "kubeProxyReplacement"),
        ("kubeproxyreplacement", "kubeproxyreplacement", "kubeProxyReplacement"),
        ("kube-proxy-replacement", "kube-proxy-replacement", "kubeProxyReplacement"),
        ("loadBalanser.mode", "loadBalanser", "loadBalancer"),
        ("loadBalancer.mod", "loadBalancer.mod", "loadBalancer.mode"),
        ("hubble.relay.enable", "hubble.relay.enable", "hubble.relay.enabled"),
        ("bpf.masquarade", "bpf.masquarade", "bpf.masquerade"),
        ("relay.enabled", "relay", "hubble.relay"),
        ("loadBalancer.lbMapMax", "loadBalancer.lbMapMax", "bpf.lbMapMax"),
        ("masquerade", "masquerade", "bpf.masquerade"),
        ("bpf.lb.mapMax", "bpf.lb", "bpf.lbMapMax"),
        ("ui", "ui", "hubble.ui"),
        ("xyzzy.a", "xyzzy", None),
        ("bpf.enabled", "bpf.enabled", None),
        ("fromSchema.other", "fromSchema.other", None),
        ("partly.other", "partly.other", None),
        ("apiServerHost", "apiServerHost", "k8sServiceHost"),
    ],
)
def test_unknown(known: KnownValues, path: str, unknown: str, nearest: str | None) -> None:
    (found,) = known.unknown(at(path))
    assert (found.path, found.name, found.nearest) == (path, unknown, nearest)
    hint = f'did you mean "{nearest}"?' if nearest else "nothing near it is known: leave it out"
    assert str(found) == f'values.{path}: the chart cilium 1.18.6 doesn\'t know "{unknown}"; {hint}'
    assert not known.knows(path)


@pytest.mark.parametrize("path", ["kubeProxyReplacement.enabled", "image.override.x", "rate.x", "closed.x"])
def test_a_map_where_a_single_value_stands(known: KnownValues, path: str) -> None:
    (found,) = known.unknown(at(path))
    assert "takes a single value" in str(found)
    assert found.nearest is None


def test_what_the_chart_refuses(known: KnownValues) -> None:
    assert [str(found) for found in known.unknown({"tunnel": "vxlan", **at("proxy.prometheus.port")})] == [
        "values.tunnel: the chart cilium 1.18.6 refuses it: tunnel has been removed, use routingMode",
        "values.proxy.prometheus.port: the chart cilium 1.18.6 refuses it: proxy.prometheus has been removed",
    ]
    assert "doesn't know" in str(known.unknown(at("proxy.prometheus.other"))[0])


def test_a_key_with_dots_in_it(known: KnownValues) -> None:
    (found,) = known.unknown({"loadBalancer.mode": "dsr"})
    assert str(found) == (
        'values["loadBalancer.mode"]: the chart cilium 1.18.6 doesn\'t know ["loadBalancer.mode"]; '
        'did you mean "loadBalancer.mode"?'
    )


@pytest.mark.parametrize("key", ["$(touch gone)", "q\"uo'te", "new\nline", "schlüßel", "x" * 3000, 5, None, True])
def test_odd_keys_stay_on_one_short_line(known: KnownValues, key: Any) -> None:
    (found,) = known.unknown({key: {"a": 1}})
    assert "\n" not in str(found)
    assert len(str(found)) < 1000


def test_order_and_branches(known: KnownValues) -> None:
    values: Mapping[str, Any] = {
        "zzz": {"a": {"b": 1, "c": 2}},
        "bpf": {"lbMapMax": 1, "nope": 1, "neither": {}},
        "podLabels": {"a": {"b": 1}},
        "aaa": [1],
    }
    assert [found.path for found in known.unknown(values)] == ["zzz.a", "bpf.nope", "bpf.neither", "aaa"]
    assert known.unknown({}) == []


def test_a_chart_knows_its_own_values(known: KnownValues) -> None:
    assert known.unknown(yaml.safe_load(VALUES)) == []


def test_subcharts_take_theirs(tmp_path: Path) -> None:
    about = "name: a\nversion: 1.0.0\ndependencies:\n- name: sub\n  alias: mine\n"
    with_subchart = KnownValues(load(str(write_chart(tmp_path, {"Chart.yaml": about})), None))
    assert with_subchart.unknown({"mine": {"x": 1}, "tags": {"y": True}}) == []
    assert [found.name for found in with_subchart.unknown({"sub": {"x": 1}})] == ["sub"]


def test_a_schema_that_takes_anything_makes_no_name_known(tmp_path: Path) -> None:
    for number, schema in enumerate(('{"type": "object"}', '{"properties": {}, "additionalProperties": true}')):
        chart = load(str(write_chart(tmp_path / str(number), {"values.schema.json": schema})), None)
        assert [found.name for found in KnownValues(chart).unknown({"kubeProxyReplacment": True})] == [
            "kubeProxyReplacment"
        ]


def test_a_chart_that_knows_nothing(tmp_path: Path) -> None:
    changes = dict.fromkeys(
        ("values.yaml", "values.schema.json", "templates/configmap.yaml", "templates/_helpers.tpl"), None
    )
    empty = KnownValues(load(str(write_chart(tmp_path, changes)), None))
    assert empty.unknown({"a": 1}) == [
        UnknownValue(
            "a", "a", None, 'the chart cilium 1.18.6 doesn\'t know "a"; nothing near it is known: leave it out'
        )
    ]
