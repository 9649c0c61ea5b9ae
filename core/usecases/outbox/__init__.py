"""What is done besides a reply: written in the commit that causes it, enqueued under its own name after that."""
