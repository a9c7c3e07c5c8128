"""What values hold: compared, kept, and put back into the same objects.

`content.py` defines the interface, `objects.py` finds the kind of a value; kinds are in
`containers.py`, `definitions.py`, `remembering.py`, `arrays.py`, `columnar.py`, `symbolic.py` and
`figures.py`. `store.py` keeps versions within `budget.py`; `prints.py` and `quick.py` make
fingerprints, `part_values.py` those of parts, of the kinds in `part_kinds.py`.
"""
