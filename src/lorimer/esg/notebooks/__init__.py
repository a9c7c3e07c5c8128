"""Files with cells, as steps and back; and a session as a page."""
