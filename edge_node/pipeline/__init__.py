"""Who talks to whom: the capture thread, the frame lane and the escalation lane."""
