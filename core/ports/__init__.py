"""What the use cases need from the outside, in our words. One module a role; adapters share its stem."""
