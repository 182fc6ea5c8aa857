"""Answers escalations: admits them, batches them, and runs the large model on their crops.

One process, one asyncio loop, a small decoding pool and one inference thread. The edge keeps the
durable copy of every request; what this process holds may be lost at any moment without losing
an escalation.
"""
