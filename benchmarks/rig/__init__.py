"""What the programs about faults are run with: both services as processes, and relays between."""
