"""Values that their owner has encrypted, kept out of what is said of them: refusals, findings, Helm's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_SHORTEST = 6
"""Characters. Which of an object's values is the secret one isn't known; words that are shorter are everybody's."""


def hidden(text: str, values: object) -> str:
    """A message without any text that is among the values."""
    for word in sorted(set(_texts(values)), key=len, reverse=True):
        text = text.replace(word, "[secret]")
    return text


def _texts(values: object) -> Iterator[str]:
    if isinstance(values, Mapping):
        for its in values.values():
            yield from _texts(its)
    elif isinstance(values, list):
        for its in values:
            yield from _texts(its)
    elif isinstance(values, str):
        # a message quotes one as Python does, or line by line
        for word in (values, repr(values)[1:-1], *values.splitlines()):
            if len(word.strip()) >= _SHORTEST:
                yield word.strip()
