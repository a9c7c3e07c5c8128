"""`lorimer demo`: an agent at work on real data, killed in the middle and resumed.

`command.py` has the options, `play.py` is the play, `show.py` what the reader sees, `proof.py`
what was not repeated, `stage.py` the folder it is played in, `actor.py` the scripted model,
`process.py` the agent's process. `data/` is what the agent works on, `task.md` what it is asked,
`script/` what the scripted model writes.
"""
