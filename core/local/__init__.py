"""The embedded stack: every part of a deployment on one machine, over real sockets."""
