"""A turn: from a task of the queue to a reply at LINE."""
