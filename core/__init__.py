"""fairlane answers clinics' customers on LINE with an LLM, within every limit, budget and patience.

Layers, top to bottom (enforced by import-linter): ops, local -> edge -> bootstrap -> adapters | usecases
-> ports -> domain. Vendor packages are imported in adapters only.
"""
