"""gateway: the others' gRPC as REST and as a web page.

Reads:   the others' gRPC.
Decides: nothing.
Writes:  nothing; it passes an operator's orders on to the controller.
"""
