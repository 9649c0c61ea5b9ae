"""What fairlane does: each use case receives its ports and policies, and knows no vendor."""
