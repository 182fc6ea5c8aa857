"""The wire contract between the edge node and the cloud escalator: .proto files and stubs."""
