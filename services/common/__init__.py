"""What every service shares: wire formats, the bus, the frame ring, counters. It imports no service."""
