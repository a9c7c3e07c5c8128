"""What a step can depend on besides names: files, random states, the folder, the environment,
settings of libraries.

`resources.py` has the kinds; `surroundings.py` and `files.py` know what they are at the places of
steps, `watching.py` which files are used, `settings.py` those of libraries, `reading.py` who reads
them.
"""
