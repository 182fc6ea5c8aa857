"""Version 1 of the escalation contract; generated from escalation.proto by `make protos`."""
