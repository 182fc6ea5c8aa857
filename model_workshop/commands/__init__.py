"""The sub-commands of `model-workshop`, one module each.

A module here is a shell: `HELP` and `add_arguments` describe the command line, `run` calls the
room that does the work and prints what it gave. It imports that room inside `run`, so that the
help needs none of the extras.
"""
