"""`hopwire up`: the services as local processes in one network namespace. The core is pure: `supervisor`."""
