"""Between HTTP and the use cases: one module a function, and what a process needs once."""
