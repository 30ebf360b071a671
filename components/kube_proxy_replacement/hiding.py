"""Values that their owner has encrypted, kept out of what is said of them: refusals, findings, Helm's own words."""

from __future__ import annotations

from collections.abc import Iterator

from .cluster import trees

_SHORTEST = 6
"""Characters. Which of an object's values is the secret one isn't known; words that are shorter are everybody's."""


def hidden(text: str, values: object) -> str:
    """A message without any text that is among the values."""
    for word in sorted(set(_words(values)), key=len, reverse=True):
        text = text.replace(word, "[secret]")
    return text


def _words(values: object) -> Iterator[str]:
    """A message quotes a text as Python does, or line by line."""
    for text in trees.texts(values):
        for word in (text, repr(text)[1:-1], *text.splitlines()):
            if len(word.strip()) >= _SHORTEST:
                yield word.strip()
