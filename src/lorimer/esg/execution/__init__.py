"""The run of a step in this process, and the order of a replay.

`replaying.py` says which runs next, `attempt.py` runs it: lent by `lending.py`, with the globals of
`namespace.py`, compiled and run by `running.py`, read by `commit.py`. `attributes.py`, `modules.py`
and `loading.py` see what it does to modules, `evaluating.py` is its `eval`, `main.py` its
`__main__`, `displays.py` and `showing.py` what it shows; `results.py` what is told, `places.py`
what names are after a step.
"""
