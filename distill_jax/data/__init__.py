"""Readers, views, packing and loading: the way of the data up to a batch."""
