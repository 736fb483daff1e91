"""forwarder: everything IPv4. A compiled fast path over batches, and a plain Python slow path for the rest."""
