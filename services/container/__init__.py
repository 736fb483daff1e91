"""One service as a container: what starts it, what watches it, what holds the network namespace that all share.

`python -m services.container.keep SERVICE [OPTION…]` is process 1 of a service's container, `services.container.hold`
that of the container whose network namespace the services share, and `services.container.health` the health check of
both. They import little, since there is one of them beside each service.
"""
