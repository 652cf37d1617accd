"""One module per command: parse, call, write, say what was done."""
