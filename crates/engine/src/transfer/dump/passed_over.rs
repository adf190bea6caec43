//! Files in the directory of a dump that are not imported: the server's own databases and collections, the log of
//! `--oplog`, what mongodump says of itself, and what file managers leave behind.

/// What mongodump writes beside the files of collections: which versions were at work.
const PRELUDE: [&str; 2] = ["prelude.json", "prelude.json.gz"];
const OPLOG: [&str; 2] = ["oplog.bson", "oplog.bson.gz"];
/// The databases that every server has.
const SERVER: [&str; 3] = ["admin", "config", "local"];
/// What file managers and archivers leave behind.
const LEFT_BEHIND: [&str; 6] = [
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    ".directory",
    ".localized",
    "__MACOSX",
];

/// Whether it is part of every dump and says nothing of documents.
pub(crate) fn is_prelude(name: &str) -> bool {
    PRELUDE.contains(&name)
}

/// Why a file or directory of this name is passed over anywhere in a dump.
pub(crate) fn anywhere(name: &str) -> Option<&'static str> {
    let left_behind = |known: &&str| known.eq_ignore_ascii_case(name);
    let is_left_behind = LEFT_BEHIND.iter().any(left_behind);
    // Finder keeps a file's attributes in another of that name.
    (is_left_behind || name.starts_with("._")).then_some("it is a file of a file manager")
}

/// Why a file beside the databases is passed over.
pub(crate) fn beside_databases(name: &str) -> Option<&'static str> {
    let reason = "oplog entries are not replayed: documents are imported as the files hold them";
    let oplog = OPLOG.contains(&name).then_some(reason);
    oplog.or_else(|| anywhere(name))
}

/// Why a directory that is none of the seven databases is passed over.
pub(crate) fn database(name: &str) -> Option<&'static str> {
    let server = SERVER
        .contains(&name)
        .then_some("it is the server's own database");
    server.or_else(|| anywhere(name))
}

/// Why a collection of this name is passed over.
pub(crate) fn collection(name: &str) -> Option<&'static str> {
    let system = name.starts_with("system.");
    system.then_some("it is the server's own collection")
}
