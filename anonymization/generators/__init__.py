"""Generators: what realistic methods draw people with."""
