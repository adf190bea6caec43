//! Data that comes from elsewhere or goes there: dumps, the predecessor's documents, and what is quarantined.

pub(crate) mod dump;
pub(crate) mod import;
pub(crate) mod quarantine;
