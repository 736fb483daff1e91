"""`control-cli`: iproute2's grammar on a router's control service."""
