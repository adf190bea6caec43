//! The embeddable engine: connection manager, users, the migration service.
