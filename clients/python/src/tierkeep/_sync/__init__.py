"""What blocks: made from ``tierkeep._async`` by ``tools/make_sync.py``."""
