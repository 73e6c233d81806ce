"""flyertime's functions: app events in, average time on flyer per user out.

The layers, from the inside out; arrows point only upwards in this list, and tests/deploy/test_layers.py says so:

- ``core``      decides and encodes: no sockets, no clock, no environment, no client library.
- ``adapters``  talks to the outside: one file (or prefix) an outside system, whose exceptions stop there.
- ``ingest``, ``trigger``, ``report``  one use case each: ``handler`` does it, ``main`` wires it up.
- ``local``     the same pipeline on one machine: embedded Valkey, the functions as processes, local Spark.
- ``asgi``      the app that a container serves; ``cli`` the command line.

``spark`` (beside this package) is the job that folds the log into the state.
"""
