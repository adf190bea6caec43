"""The asynchronous client, from which ``tools/make_sync.py`` generates ``tierkeep._sync``."""
