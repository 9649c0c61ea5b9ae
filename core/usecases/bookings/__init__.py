"""Customers' appointments: who decides about them, and their documents."""
