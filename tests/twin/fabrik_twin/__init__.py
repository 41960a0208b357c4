"""A second, naive implementation of the op format and of the merge, to judge the Rust core by.

Written from ``docs/spec/op.cddl`` and ``docs/spec/merge.md`` alone. It keeps everything and recomputes from scratch: slow and plain on
purpose. It shares no code with the product; only tests may import it.
"""
