"""The same agent on several frameworks, killed and resumed: what does each repeat? See README.md
of the folder above."""
