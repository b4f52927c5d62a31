"""What runs inside the sandbox: standard library only, and it imports nothing of rlvr.

The zygote loads this folder under the name `rlvr_guest`; the host imports only `values` from here.
"""
