"""What a shell command would run, as far as that is certain: the parser, the table of programs that
start others, and rules for commands."""
