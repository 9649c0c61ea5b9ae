"""The webhook: LINE's request is acknowledged once every event of it is enqueued."""
