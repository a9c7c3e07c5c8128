"""What a shell command line would run, as far as that can be known: the parser, the tables of
programs that start others, and rules for commands."""
