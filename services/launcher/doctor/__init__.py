"""`hopwire doctor`: says in plain words what keeps hopwire from routing in a namespace, and how to mend it."""
