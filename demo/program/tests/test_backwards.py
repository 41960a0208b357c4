import contextlib
import io
import unittest

from textkit.__main__ import main
from textkit.functions import backwards


class Backwards(unittest.TestCase):
    def test_backwards(self) -> None:
        self.assertEqual(backwards("abc"), "cba")

    def test_command(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(main(["backwards", "abc"]), 0)
        self.assertEqual(out.getvalue(), "cba\n")
