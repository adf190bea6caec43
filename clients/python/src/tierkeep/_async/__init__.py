"""What waits: the source from which ``tierkeep._sync`` is made, by ``tools/make_sync.py``."""
