"""What the scripts in tests/faults share: the gateway, its callers, the ledger, upstreams, mail servers and faulty disks."""
