"""The composition root: the only place where ports meet their adapters. One module a process kind.

Each imports just what its function's requirements.txt brings.
"""
