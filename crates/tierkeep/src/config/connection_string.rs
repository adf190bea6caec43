//! MongoDB connection strings, as far as they say which database they lead to. Owns the comparison of two of them; must
//! never print one, resolve a name, or contact a server.
//!
//! Notation: MongoDB manual, "Connection Strings".

use std::collections::BTreeSet;

/// Which database a connection string leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    hosts: BTreeSet<String>,
    /// The database of the path, where it names one.
    pub path_database: Option<String>,
}

/// The port where a host names none.
const DEFAULT_PORT: &str = "27017";

impl Target {
    /// Reads a connection string.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (srv, rest) = if let Some(rest) = url.strip_prefix("mongodb://") {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix("mongodb+srv://") {
            (true, rest)
        } else {
            return Err("it must start with mongodb:// or mongodb+srv://");
        };
        let (before_options, _) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before_options
            .split_once('/')
            .unwrap_or((before_options, ""));
        let hosts = authority
            .rsplit_once('@')
            .map_or(authority, |(_, hosts)| hosts);
        let hosts: BTreeSet<String> = hosts.split(',').map(|host| normal(host, srv)).collect();
        if hosts.contains("") || (srv && hosts.len() != 1) {
            return Err("it names no host or an empty host");
        }
        let database = decoded(path).ok_or("the database in its path is malformed")?;
        let fits = database.len() <= 63
            && !database.contains([
                '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0',
            ]);
        if !fits {
            return Err("the database in its path is not a database name");
        }
        Ok(Self {
            hosts,
            path_database: (!database.is_empty()).then_some(database),
        })
    }

    /// Whether the two name a server in common.
    pub fn shares_server_with(&self, other: &Self) -> bool {
        !self.hosts.is_disjoint(&other.hosts)
    }
}

/// Host and port in lower case, the port always there; a SRV name is kept apart from hosts.
fn normal(host: &str, srv: bool) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let has_port = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand within brackets.
        Some((_, port)) => !port.contains(']'),
        None => false,
    };
    match (srv, host.is_empty() || host.starts_with(':')) {
        (_, true) => String::new(),
        (true, false) => format!("srv:{host}"),
        (false, false) if has_port => host,
        (false, false) => format!("{host}:{DEFAULT_PORT}"),
    }
}

/// The host name of a `mongodb+srv` string.
pub fn srv_name(url: &str) -> Option<String> {
    let target = Target::parse(url).ok()?;
    let mut hosts = target.hosts.iter();
    hosts.find_map(|host| host.strip_prefix("srv:").map(str::to_owned))
}

/// `text` with `%XX` resolved.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mongodb://h", "")]
    #[case("mongodb://h/", "")]
    #[case("mongodb://u:p%40@h:1,i:2/db?x=y", "db")]
    #[case("mongodb://h/d%62?x=/y", "db")]
    #[case("mongodb://h?x=/y", "")]
    #[case("mongodb+srv://h.example.org/db", "db")]
    #[case("mongodb://[::1]:27018/db", "db")]
    fn the_path_names_the_database(#[case] url: &str, #[case] database: &str) {
        let found = Target::parse(url).unwrap().path_database;
        assert_eq!(found.unwrap_or_default(), database);
    }

    #[rstest]
    #[case("mongodb+srv://a,b/db")]
    #[case("mongodb://")]
    #[case("mongodb://a,,b")]
    #[case("mongodb://h/a%2Fb")]
    #[case("mongodb://h/a%zz")]
    #[case("postgres://h/db")]
    fn anything_else_is_no_connection_string(#[case] url: &str) {
        assert!(Target::parse(url).is_err());
    }

    #[rstest]
    #[case("mongodb://h", "mongodb://H:27017", true)]
    #[case("mongodb://h,i", "mongodb://i,j", true)]
    #[case("mongodb://u:p@h", "mongodb://h/?authSource=admin", true)]
    #[case("mongodb://[::1]", "mongodb://[::1]:27017", true)]
    #[case("mongodb://h:1", "mongodb://h:2", false)]
    #[case("mongodb+srv://h", "mongodb://h", false)]
    #[case("mongodb+srv://h", "mongodb+srv://H.", true)]
    fn servers_are_compared_by_host_and_port(#[case] a: &str, #[case] b: &str, #[case] same: bool) {
        let (a, b) = (Target::parse(a).unwrap(), Target::parse(b).unwrap());
        assert_eq!(a.shares_server_with(&b), same);
        assert_eq!(b.shares_server_with(&a), same);
    }
}
