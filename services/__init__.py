"""hopwire: a software router in small services. One folder a service, and `common` for what they share."""
