"""Edits of steps, guarded by a hash of the code that they change.

`patches.py` defines them, `forms.py` their text forms. Diagnosis makes them; `repair/` tries them.
"""
