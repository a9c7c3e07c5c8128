"""Replay measured on notebooks of others: is it right after an edit, and how much does it run?"""
