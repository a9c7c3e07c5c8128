"""Edits of steps that mend a failure: as text, tried before they are kept, or proposed by a model.

`patches.py` is what an edit is, `forms.py` how it is written, `repairing.py` tries it,
`proposals.py` and `model_proposer.py` ask for one.
"""
