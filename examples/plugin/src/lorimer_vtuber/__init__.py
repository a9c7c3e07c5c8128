"""An example of a plug-in: strategies for agents with a face and a voice."""
