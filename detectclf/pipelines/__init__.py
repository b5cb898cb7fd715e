"""The whole way from exports to a report: one plain function per command.

Each takes settings and paths, calls the other packages in order, and returns what the command line prints. Heavy
imports happen inside the functions, so that a wrong flag is reported immediately.
"""
