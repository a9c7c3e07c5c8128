"""`lorimer chat`: `command.py` has the options, `loop.py` the conversation, `commands.py` what a
line with `/` does, `screen.py` what is shown."""
