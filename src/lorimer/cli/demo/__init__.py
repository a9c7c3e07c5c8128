"""`lorimer demo`: an agent at work on real data, killed in the middle and resumed.

`command.py` has the options, `play.py` the course of the demo, `show.py` its output, `proof.py`
counts what was not repeated, `stage.py` has the folder, `actor.py` the scripted model, `process.py`
the agent's process. `data/` is the agent's material, `task.md` its task, `script/` what the
scripted model writes."""
