"""All functions of textkit. Those that raise NotImplementedError are still to be written."""

from __future__ import annotations


def backwards(text: str) -> str:
    """The text from its end to its start."""
    return text[::-1]


def slug(text: str) -> str:
    """Words in lower case, joined by hyphens: ``Hello, World!`` gives ``hello-world``."""
    raise NotImplementedError("slug")


def words(text: str) -> int:
    """The number of words."""
    raise NotImplementedError("words")


def longest(text: str) -> str:
    """The longest word, without punctuation; the first one of several."""
    raise NotImplementedError("longest")


def roman(number: int) -> str:
    """A number from 1 to 3999 in Roman numerals."""
    raise NotImplementedError("roman")


def unroman(text: str) -> int:
    """The number of Roman numerals. Raises ValueError for what :func:`roman` would not write."""
    raise NotImplementedError("unroman")


def rot13(text: str) -> str:
    """Each Latin letter moved by 13 places; twice gives the text again."""
    raise NotImplementedError("rot13")


def summary(text: str) -> str:
    """One line with the number of words and the longest: ``3 words, the longest is banana``."""
    raise NotImplementedError("summary")
