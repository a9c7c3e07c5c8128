"""What values hold: told apart, kept, and put back into the same objects.

`content.py` is the interface, `objects.py` finds the kind of a value: `containers.py`,
`definitions.py`, `arrays.py`, `figures.py`. `store.py` keeps versions within `budget.py`,
`prints.py` and `quick.py` make fingerprints, `part_values.py` those of parts, `owners.py` knows
whose attributes are tracked, `summaries.py` says a value in a line.
"""
