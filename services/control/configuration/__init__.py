"""The configuration in force: what it asks of the kernel, how it is applied as a whole, confirmed, and taken back."""
