"""The command line: one module a verb; options in, exit code out."""
