"""What the demo's worker knows how to write: for each function its body, and the tests that prove it.

This stands in for the head of a coding agent. Everything around it is real: the worktree, the edit, the tests, the commit.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """``body`` replaces the ``raise`` line of the function; ``checks`` are assertions on ``f``, the module of functions."""

    task: str
    body: str
    checks: tuple[str, ...]
    needs: tuple[str, ...] = ()


RECIPES: dict[str, Recipe] = {
    "slug": Recipe(
        "Lower-case words joined by hyphens, punctuation left out.",
        """
    kept = "".join(char.lower() if char.isalnum() else " " for char in text)
    return "-".join(kept.split())
""",
        ('self.assertEqual(f.slug("Hello, World!"), "hello-world")', 'self.assertEqual(f.slug("  a--b  "), "a-b")', 'self.assertEqual(f.slug(""), "")'),
    ),
    "words": Recipe(
        "Count the words of a text.",
        """
    return len(text.split())
""",
        ('self.assertEqual(f.words("one two  three"), 3)', 'self.assertEqual(f.words(""), 0)'),
    ),
    "longest": Recipe(
        "Find the longest word; of several the first.",
        """
    found = [word.strip(".,;:!?()") for word in text.split()]
    return max(found, key=len, default="")
""",
        ('self.assertEqual(f.longest("a banana, or two"), "banana")', 'self.assertEqual(f.longest("abc xyz"), "abc")', 'self.assertEqual(f.longest(""), "")'),
    ),
    "roman": Recipe(
        "Write a number from 1 to 3999 in Roman numerals; anything else is a ValueError.",
        """
    if not 1 <= number <= 3999:
        raise ValueError(f"no Roman numerals for {number}")
    signs = (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")
    result = ""
    for value, sign in signs:
        count, number = divmod(number, value)
        result += sign * count
    return result
""",
        ('self.assertEqual(f.roman(1994), "MCMXCIV")', 'self.assertEqual(f.roman(4), "IV")', "self.assertRaises(ValueError, f.roman, 0)"),
    ),
    "unroman": Recipe(
        "Read Roman numerals. It uses roman, so that both agree on what is right.",
        """
    for number in range(1, 4000):
        if roman(number) == text:
            return number
    raise ValueError(f"{text!r} are no Roman numerals")
""",
        (
            'self.assertEqual(f.unroman("MCMXCIV"), 1994)',
            'self.assertRaises(ValueError, f.unroman, "IIII")',
            "self.assertEqual([f.unroman(f.roman(n)) for n in (1, 9, 40, 3999)], [1, 9, 40, 3999])",
        ),
        needs=("roman",),
    ),
    "rot13": Recipe(
        "Move each Latin letter by 13 places.",
        """
    upper, lower = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
    return text.translate(str.maketrans(upper + lower, upper[13:] + upper[:13] + lower[13:] + lower[:13]))
""",
        ('self.assertEqual(f.rot13("Hello"), "Uryyb")', 'self.assertEqual(f.rot13(f.rot13("Any text, 42!")), "Any text, 42!")'),
    ),
    "summary": Recipe(
        "One line with the number of words and the longest of them. It uses words and longest.",
        """
    return f"{words(text)} words, the longest is {longest(text)}"
""",
        ('self.assertEqual(f.summary("a banana today"), "3 words, the longest is banana")',),
        needs=("words", "longest"),
    ),
}
"""In the order in which the demo adds them as items."""
