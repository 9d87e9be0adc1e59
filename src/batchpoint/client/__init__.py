"""The SDK: typed, synchronous, and the same for the embedded mode and for a server."""
