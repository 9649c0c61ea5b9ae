"""The queue's tasks that do an effect: who does which kind, and when it is tried again."""
