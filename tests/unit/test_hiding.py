from __future__ import annotations

import pytest

from kube_proxy_replacement.hiding import hidden

SECRET = "hunter2-is-it"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": {"b": [1, SECRET]}}, f"values.a.b: {SECRET!r} isn't true"),
        ({"a": f"line one\n{SECRET}\n"}, f"error at line 2: {SECRET}"),
        ({"a": f"quote ' and\t{SECRET}"}, "values.a: " + repr(f"quote ' and\t{SECRET}")),
        ({"a": SECRET, "b": f"{SECRET}-longer"}, f"{SECRET}-longer and {SECRET}"),
    ],
)
def test_no_text_among_the_values_is_left(values: object, text: str) -> None:
    said = hidden(text, values)
    assert SECRET not in said
    assert "-longer" not in said
    assert "[secret]" in said


@pytest.mark.parametrize("values", [None, {}, {"a": True, "b": 4096, "c": "ipv4", "d": None}])
def test_what_is_no_secret_is_left_as_it_is(values: object) -> None:
    text = "values.c: 'ipv4' isn't True or 4096"
    assert hidden(text, values) == text
