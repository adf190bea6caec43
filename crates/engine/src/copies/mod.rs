//! The copies of a document in temp, main and srie: adopted, staged, written and replicated, each by one algorithm.

pub(crate) mod adopt;
pub(crate) mod batch;
pub(crate) mod pair;
pub(crate) mod put;
pub(crate) mod replicate;
pub(crate) mod sound;
pub(crate) mod staging;
