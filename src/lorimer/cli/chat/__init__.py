"""`lorimer chat`: `command.py` has the options, `loop.py` the conversation, `commands.py` the slash
commands, `screen.py` the display."""
