"""Shared by the scripts in tests/faults: the gateway, its callers, the ledger, upstreams, mail servers and faulty
disks.
"""
