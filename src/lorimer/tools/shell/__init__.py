"""What a shell command would run, as far as that can be said for certain: the parser, the table of
programs that start others, and rules over commands. Whoever permits a command asks here."""
