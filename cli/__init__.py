"""The command line: one command per file, thin: parse, call, render."""
