"""How fast a bundle is here, on what, and for how long."""
