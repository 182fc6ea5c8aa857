"""The edge node: sees, decides, remembers, asks."""
