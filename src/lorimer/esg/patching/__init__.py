"""Edits of steps that fix a failure: as text, tried before they are kept, or proposed by a model.

`patches.py` defines edits, `forms.py` their text forms; `repairing.py` tries a patch;
`proposals.py` and `model_proposer.py` ask for one.
"""
