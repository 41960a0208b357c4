"""``python -m textkit FUNCTION TEXT``: call one function of :mod:`textkit.functions` and print what it gives."""

import sys

from textkit import functions


def main(arguments: list[str]) -> int:
    """0 when the function answered, 2 when there is no such function or it is not written yet."""
    if len(arguments) != 2 or arguments[0].startswith("_") or not callable(getattr(functions, arguments[0], None)):
        print("usage: python -m textkit FUNCTION TEXT", file=sys.stderr)
        return 2
    try:
        print(getattr(functions, arguments[0])(arguments[1]))
    except NotImplementedError:
        print(f"{arguments[0]} is not written yet", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
