"""From a float model to an integer one that is still good."""
