"""How good a bundle is, where it is weak, and what its scores mean."""
