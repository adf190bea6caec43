//! Data that comes from elsewhere or goes there: dumps, and the predecessor's documents.

pub(crate) mod dump;
pub(crate) mod import;
