"""Labs: hosts and routers as network namespaces on one machine, with hopwire running in every router."""
