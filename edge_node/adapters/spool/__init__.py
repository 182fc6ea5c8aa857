"""The durable spool: escalations on disk, from their making to their end and beyond."""
