"""What is done besides a reply: written in the commit that causes it, then enqueued under its own name."""
