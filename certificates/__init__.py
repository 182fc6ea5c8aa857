"""Makes certificates for development and trials: an authority, servers, devices, revocations."""
