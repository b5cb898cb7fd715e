"""The whole way from exports to a report: one plain function per command.

Each takes settings and paths, calls the rooms in order, and returns facts for the command line to print. Heavy
imports happen inside the functions, so that a wrong flag is told of at once.
"""
