"""How fast a bundle runs on this machine, on what, and with which settings it should run."""
