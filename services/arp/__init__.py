"""The neighbour cache and the ARP protocol (RFC 826): who has a next hop's MAC, and which frames wait for it."""
