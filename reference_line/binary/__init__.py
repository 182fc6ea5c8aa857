"""The binary look: boards as a scanner with a threshold shows them, with hand-drawn defects."""
