"""Mutations: their ids, and the logs that say what was changed."""
