"""`redis-agent`: the operator's client. Progress goes to stderr, data to stdout.

Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 refused by policy, 4 unreachable.
"""
