"""The control service: mirrors the kernel's links, addresses and routes, publishes them, and answers questions."""
