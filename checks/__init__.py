"""The house's own linters: each module is one check that `make check` runs with `python -m`.

A check prints every finding as `path: what is wrong` and ends with 1 when there is any.
"""
