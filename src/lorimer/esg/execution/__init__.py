"""Runs a step in this process, and orders the runs of a replay.

`replaying.py` decides which step runs next and `attempt.py` runs it: `lending.py` supplies values
through the globals of `namespace.py`, `running.py` compiles and runs, `commit.py` reads what the
step left. `attributes.py`, `owners.py`, `modules.py` and `loading.py` see what it does to
modules; `part_reads.py` knows which steps need not run because the parts they use are the same;
`evaluating.py` is its `eval`, `main.py` its `__main__`, `displays.py` and `showing.py` what it
shows. `results.py` defines what is returned, `places.py` gives names as they are after a step.
"""
