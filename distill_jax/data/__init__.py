"""Rows to batches, without TensorFlow.

What enters: rows of files, hubs or generators (`sources`), and a task that says how a student sees them and how
answers are scored (`task`, `views`). What leaves: packed token records in a cache (`prepare`), read as batches
(`loader`).
"""
