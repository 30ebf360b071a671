"""Which values templates use: what is found in every form that charts write."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kube_proxy_replacement.chart.template_values import Usage, usage


def used_by(*texts: str) -> Usage:
    return usage({f"templates/{number}.yaml": dedent(text) for number, text in enumerate(texts)})


def names(paths: object) -> set[str]:
    return {".".join(path) for path in paths}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ .Values.a.b.c }}", {"a.b.c"}),
        ("{{- .Values.a -}} and {{.Values.b}}", {"a", "b"}),
        ("{{ $.Values.a.b }}", {"a.b"}),
        ("{{ (.Values.a).b }}", {"a", "a.b"}),
        ("{{ ((.Values.a).b).c }}", {"a", "a.b", "a.b.c"}),
        ('{{ index .Values "a" "b" }}', {"a.b"}),
        ('{{ index .Values.a "b.c" }}', {"a", "a.b.c"}),
        ('{{ get .Values.a "b" | quote }}', {"a", "a.b"}),
        ('{{ (get .Values "a").b }}', {"a", "a.b"}),
        ('{{ if hasKey .Values "a" }}x{{ end }}', {"a"}),
        ('{{ dig "a" "b" "none" .Values.AsMap }}', {"a.b"}),
        ('{{ .Values.AsMap | dig "a" "b" "none" }}', {"a.b"}),
        ('{{ pluck "a" .Values .Values.b | first }}', {"a", "b", "b.a"}),
        ('{{ $_ := unset .Values.a "b" }}', {"a", "a.b"}),
        ("{{ with .Values.a }}{{ .b }}{{ $.Values.c }}{{ end }}", {"a", "a.b", "c"}),
        ("{{ with .Values }}{{ .a }}{{ end }}", {"a"}),
        ("{{ with .Values.a }}{{ .b }}{{ else }}{{ .Values.c }}{{ end }}", {"a", "a.b", "c"}),
        ("{{ with .Values.a }}{{ .b }}{{ else with .Values.c }}{{ .d }}{{ end }}", {"a", "a.b", "c", "c.d"}),
        ("{{ with $x := .Values.a }}{{ $x.b }}{{ end }}", {"a", "a.b"}),
        ("{{ if .Values.a }}{{ .Values.b }}{{ else if .Values.c }}{{ .Values.d }}{{ end }}", {"a", "b", "c", "d"}),
        ("{{ $x := .Values.a }}{{ if $x.b }}{{ end }}", {"a", "a.b"}),
        ('{{ $x := "" }}{{ if .Values.z }}{{ $x = .Values.a }}{{ end }}{{ $x.b }}', {"z", "a", "a.b"}),
        ("{{ $x := coalesce .Values.a .Values.old }}{{ $x.b }}", {"a", "old", "a.b", "old.b"}),
        ("{{ (.Values.a | default dict).b }}", {"a", "a.b"}),
        ("{{ (default dict .Values.a).b }}", {"a", "a.b"}),
        ("{{ range $c := tuple .Values.a .Values.b }}{{ $c.x }}{{ end }}", {"a", "b", "a.x", "b.x"}),
        ("{{ range .Values.list }}{{ .name }}{{ $.Values.a }}{{ end }}", {"list", "a"}),
        ('{{ $d := dict "k" .Values.a }}{{ $d.k.b }}', {"a", "a.b"}),
        ('{{ printf "%s" .Values.a | quote }}', {"a"}),
        ('{{ if and (eq .Values.a "x }} y") (not .Values.b) }}{{ end }}', {"a", "b"}),
        ("{{ `}}` }}{{ .Values.a }}", {"a"}),
        ("{{ if\n  .Values.a\n}}{{ end }}", {"a"}),
        ("{{- /* {{ .Values.no }} isn't used */ -}}{{/* .Values.no */}}{{ .Values.a }}", {"a"}),
        ('{{ "a .Values.no string" }}', set()),
        (".Values.no", set()),
        ("{{ .Chart.Name }}{{ .Release.Values }}{{ $.Capabilities.APIVersions.Has .Values.a }}", {"a"}),
        ("{{ .Values.a", set()),
        ("{{ end }}{{ else }}{{ .Values.a }}", {"a"}),
        ("{{ if .Values.a }}{{ .Values.b }}", {"a", "b"}),
        ("{{ | }}{{ ) }}{{ ( }}{{ $ }}{{ . }}{{ .Values.a }}", {"a"}),
    ],
)
def test_forms(text: str, expected: set[str]) -> None:
    assert names(used_by(text).used) == expected


def test_one_end_closes_a_whole_chain_of_else_if() -> None:
    text = "{{ with .Values.a }}{{ if .b }}{{ else if .c }}{{ else if .d }}{{ end }}{{ .e }}{{ end }}{{ .Values.f }}"
    assert names(used_by(text).used) == {"a", "a.b", "a.c", "a.d", "a.e", "f"}


def test_variables_end_with_their_block() -> None:
    text = "{{ $x := .Values.a }}{{ if true }}{{ $x := .Values.b }}{{ $x.c }}{{ end }}{{ $x.d }}"
    assert names(used_by(text).used) == {"a", "b", "b.c", "a.d"}


def test_include_with_a_part_of_the_values() -> None:
    image = '{{ define "image" }}{{ .repository }}{{ if .digest }}{{ $.tag }}{{ end }}{{ end }}'
    user = '{{ include "image" .Values.a.image | quote }}{{ template "image" .Values.b }}'
    assert names(used_by(image, user).used) >= {"a.image.repository", "a.image.digest", "b.tag"}
    assert names(used_by(user, image).used) == names(used_by(image, user).used)


def test_include_with_the_whole_context_or_a_list() -> None:
    text = """
        {{ define "one" }}{{ .Values.a }}{{ end }}
        {{ define "two" }}{{ $root := index . 0 }}{{ $part := index . 1 }}{{ $root.Values.b }}{{ $part.c }}{{ end }}
        {{ include "one" . }}{{ include "two" (list $ .Values.part) }}
    """
    assert names(used_by(text).used) == {"a", "b", "part", "part.c"}


def test_a_define_that_nobody_includes_by_name_counts_for_the_whole_context() -> None:
    assert names(used_by('{{ define "x" }}{{ .Values.a }}{{ end }}').used) == {"a"}
    assert names(used_by('{{ block "x" .Values.b }}{{ .c }}{{ end }}').used) == {"b", "b.c"}


def test_a_define_that_includes_itself_ends() -> None:
    text = '{{ define "x" }}{{ .a }}{{ include "x" . }}{{ end }}{{ include "x" .Values.b }}'
    assert names(used_by(text).used) == {"b", "b.a"}


@pytest.mark.parametrize(
    "text",
    [
        "{{ toYaml .Values.a }}",
        "{{ .Values.a | toYaml | nindent 2 }}",
        "{{ with .Values.a }}{{ toYaml . }}{{ end }}",
        "{{ with .Values.a }}{{ list . | toYaml }}{{ end }}",
        '{{ omit .Values.a "b" | toYaml }}',
        "{{ range $k, $v := .Values.a }}{{ $k }}{{ $v }}{{ end }}",
        "{{ index .Values.a .Release.Name }}",
        "{{ .Values.a | keys | sortAlpha }}",
        "{{ toJson (merge .Values.a dict) }}",
    ],
)
def test_maps_that_are_used_whole(text: str) -> None:
    assert names(used_by(text).whole) == {"a"}


@pytest.mark.parametrize(
    "text",
    ["{{ .Values.a }}", "{{ toYaml .Values }}", "{{ .Values.a | toYaml | sha256sum }}", "{{ toYaml . | sha256sum }}"],
)
def test_maps_that_are_not(text: str) -> None:
    assert names(used_by(text).whole) == set()


def test_values_that_are_looked_at_only_to_be_refused() -> None:
    found = used_by(
        """
        {{- if .Values.old }}
          {{ fail "old has been removed" }}
        {{- end }}
        {{- if or (dig "also" "old" "" .Values.AsMap) .Values.good }}{{- /* why */ -}}{{ fail "gone" }}{{ end }}
        {{- if not .Values.needed }}{{ fail "needed must be set" }}{{ end }}
        {{- if .Values.on }}{{ if .Values.inner }}{{ fail "not both" }}{{ end }}{{ end }}
        {{ .Values.good }}
        """
    )
    assert names(found.used) == {"good", "needed", "on"}
    assert found.refused == {
        ("old",): "old has been removed",
        ("also", "old"): "gone",
        ("good",): "gone",
        ("inner",): "not both",
    }
