"""What a step can depend on besides names: files, random states, the folder, the environment,
settings of libraries.

`resources.py` defines the kinds; `surroundings.py` and `files.py` know their state at the places of
steps, `watching.py` which files are used, `settings.py` the settings of libraries, `reading.py`
which code reads them.
"""
