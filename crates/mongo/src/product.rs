//! What answers: MongoDB, or another product that speaks its protocol, by its own answers. Pure; `store` asks.
//!
//! Other products promise less than the protocol of a move needs: linearizable reads, majority and journal for each write,
//! pipelines in updates. What they say of themselves is taken from their public documentation:
//!
//! - FerretDB: `buildInfo` has `ferretdbVersion` (1.x) or `ferretdb` (2.x), its extensions of the answer.
//! - DocumentDB, the extension of PostgreSQL, and the services of Azure on it: `hello` has `internal.documentdb_versions`,
//!   earlier `internal.cosmos_versions`.
//! - Azure Cosmos DB (request units): its answers have the name of their type, `_t`. Its hosts end with
//!   `.cosmos.azure.com`.
//! - Amazon DocumentDB: its members' hosts end with `.docdb.amazonaws.com`, those of elastic clusters with
//!   `.docdb-elastic.amazonaws.com`; commands that it does not have it refuses with code 303, `getCmdLineOpts` among them.
//! - MongoDB: `storageEngines` has `wiredTiger`, and `gitVersion` the commit that it was built from; both are documented as
//!   stable. Percona Server for MongoDB is built from MongoDB, says the same, and adds `psmdbVersion`.

use bson::raw::{RawBsonRef, RawDocument};

/// The releases of MongoDB that the tests run on, the oldest first.
pub const TESTED: [&str; 3] = ["5.0.4", "6.0.5", "6.0.27"];

const AMAZON_DOCUMENTDB: &str = "Amazon DocumentDB";
const AZURE_COSMOS_DB: &str = "Azure Cosmos DB";
const DOCUMENTDB: &str = "DocumentDB (the extension of PostgreSQL, or a service of Azure on it)";
const FERRETDB: &str = "FerretDB";
const UNKNOWN: &str = "a product that implements the MongoDB protocol but is not MongoDB";

/// The domains of services, and which service each is.
const DOMAINS: [(&str, &str); 3] = [
    (".docdb.amazonaws.com", AMAZON_DOCUMENTDB),
    (".docdb-elastic.amazonaws.com", AMAZON_DOCUMENTDB),
    (".cosmos.azure.com", AZURE_COSMOS_DB),
];

/// Code of Amazon DocumentDB for a command that it does not have.
const FEATURE_NOT_SUPPORTED: i32 = 303;
const COMMAND_NOT_FOUND: i32 = 59;
const COMMAND_NOT_SUPPORTED: i32 = 115;

/// What the first answers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Product {
    MongoDb,
    Other(&'static str),
    /// It takes another question to know: see [`by_refusal`].
    Unclear,
}

/// What the answers to `hello` and `buildInfo` say, and the hosts that the connection string names.
pub(crate) fn product<'a>(
    hello: &'a RawDocument,
    build: Option<&RawDocument>,
    hosts: impl IntoIterator<Item = &'a str>,
) -> Product {
    let has = |document: &RawDocument, name: &str| matches!(document.get(name), Ok(Some(_)));
    let built_with = |name: &str| build.is_some_and(|build| has(build, name));
    if built_with("ferretdb") || built_with("ferretdbVersion") {
        return Product::Other(FERRETDB);
    }
    let internal = hello.get_document("internal");
    let of_postgres =
        |it: &RawDocument| has(it, "documentdb_versions") || has(it, "cosmos_versions");
    if internal.is_ok_and(of_postgres) {
        return Product::Other(DOCUMENTDB);
    }
    if built_with("_t") || has(hello, "_t") {
        return Product::Other(AZURE_COSMOS_DB);
    }
    let members = ["hosts", "passives"].map(|kind| hello.get_array(kind));
    let members = members
        .into_iter()
        .flatten()
        .flatten()
        .map_while(Result::ok);
    let members = members.filter_map(RawBsonRef::as_str);
    let own = ["me", "primary"].map(|name| hello.get_str(name).ok());
    let mut hosts = hosts
        .into_iter()
        .chain(members)
        .chain(own.into_iter().flatten());
    if let Some(service) = hosts.find_map(service) {
        return Product::Other(service);
    }
    let engines = build.map(|build| build.get_array("storageEngines"));
    let mut engines = engines
        .into_iter()
        .flatten()
        .flatten()
        .map_while(Result::ok);
    if built_with("gitVersion") && engines.any(|engine| engine.as_str() == Some("wiredTiger")) {
        return Product::MongoDb;
    }
    Product::Unclear
}

/// The service that a host, with or without its port, belongs to.
fn service(host: &str) -> Option<&'static str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let found = DOMAINS.iter().find(|(domain, _)| name.ends_with(domain));
    found.map(|(_, service)| *service)
}

/// Whether only another product refuses `getCmdLineOpts` with this code.
pub(crate) fn is_of_another(code: i32) -> bool {
    code == FEATURE_NOT_SUPPORTED
}

/// What an unclear server is, by the code with which it refuses `getCmdLineOpts`: MongoDB has this command in a server and in
/// a router, and may only refuse the user. 0 where it answers.
pub(crate) fn by_refusal(code: i32, build: Option<&RawDocument>) -> Product {
    match code {
        FEATURE_NOT_SUPPORTED => Product::Other(AMAZON_DOCUMENTDB),
        COMMAND_NOT_FOUND | COMMAND_NOT_SUPPORTED => Product::Other(UNKNOWN),
        _ if build.is_some_and(|build| build.get_str("gitVersion").is_ok()) => Product::MongoDb,
        _ => Product::Other(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;

    use super::*;

    fn mongodb() -> RawDocumentBuf {
        rawdoc! {
            "version": "6.0.5", "gitVersion": "c9a99c120371d4d4c52cbb15dac34a36ce8d3b1d",
            "storageEngines": ["devnull", "ephemeralForTest", "wiredTiger"], "ok": 1.0,
        }
    }

    #[test]
    fn mongodb_and_percona_are_mongodb() {
        let hello = rawdoc! { "me": "db.example.org:27017", "hosts": ["db.example.org:27017"] };
        assert_eq!(product(&hello, Some(&mongodb()), []), Product::MongoDb);
        let percona = rawdoc! {
            "version": "6.0.5-4", "psmdbVersion": "6.0.5-4", "gitVersion": "2a55a7ff",
            "storageEngines": ["devnull", "inMemory", "wiredTiger"],
        };
        assert_eq!(product(&hello, Some(&percona), []), Product::MongoDb);
        // A router has no storage engine.
        let router = rawdoc! { "msg": "isdbgrid" };
        let build = rawdoc! { "version": "7.0.1", "gitVersion": "425a0454d12f2664f9e31002bbe4a386a25345b5" };
        assert_eq!(product(&router, Some(&build), []), Product::Unclear);
        for answer in [0, 13, 8000] {
            assert_eq!(by_refusal(answer, Some(&build)), Product::MongoDb);
        }
    }

    #[test]
    fn each_other_product_is_known_by_its_documented_answers() {
        let plain = rawdoc! { "isWritablePrimary": true };
        let ferret_1 =
            rawdoc! { "version": "6.0.42", "gitVersion": "x", "ferretdbVersion": "v1.24.0" };
        let ferret_2 = rawdoc! {
            "version": "7.0.77", "gitVersion": "x", "storageEngines": ["wiredTiger"],
            "ferretdb": { "version": "v2.5.0", "package": "docker" },
        };
        for build in [ferret_1, ferret_2] {
            assert_eq!(product(&plain, Some(&build), []), Product::Other(FERRETDB));
        }
        for field in ["documentdb_versions", "cosmos_versions"] {
            let mut internal = RawDocumentBuf::new();
            let field: bson::raw::CString = field.try_into().unwrap();
            internal.append(field, bson::raw::RawArrayBuf::from_iter(["0.113-0"]));
            let hello = rawdoc! { "internal": internal };
            assert_eq!(
                product(&hello, Some(&mongodb()), []),
                Product::Other(DOCUMENTDB)
            );
        }
        let typed = rawdoc! { "_t": "BuildInfoResponse", "version": "4.2.0" };
        assert_eq!(
            product(&plain, Some(&typed), []),
            Product::Other(AZURE_COSMOS_DB)
        );
        let typed = rawdoc! { "_t": "IsMasterResponse" };
        assert_eq!(product(&typed, None, []), Product::Other(AZURE_COSMOS_DB));
    }

    #[test]
    fn services_are_known_by_the_names_of_their_hosts() {
        let plain = rawdoc! { "setName": "rs0" };
        let build = rawdoc! { "version": "5.0.0" };
        for (host, name) in [
            (
                "c.cluster-x.eu-west-1.docdb.amazonaws.com:27017",
                AMAZON_DOCUMENTDB,
            ),
            (
                "c-1.eu-west-1.docdb-elastic.amazonaws.com",
                AMAZON_DOCUMENTDB,
            ),
            ("A.MONGO.COSMOS.AZURE.COM:10255", AZURE_COSMOS_DB),
            ("a.mongocluster.cosmos.azure.com.", AZURE_COSMOS_DB),
        ] {
            assert_eq!(
                product(&plain, Some(&build), [host]),
                Product::Other(name),
                "{host}"
            );
            let member = rawdoc! { "hosts": [host], "me": host };
            assert_eq!(
                product(&member, Some(&build), []),
                Product::Other(name),
                "{host}"
            );
        }
        let alike = ["docdb.amazonaws.com.example.org", "cosmos.azure.com"];
        assert_eq!(product(&plain, Some(&mongodb()), alike), Product::MongoDb);
    }

    #[test]
    fn what_names_itself_nowhere_is_known_by_what_it_refuses() {
        let plain = rawdoc! { "setName": "rs0", "me": "10.0.0.7:27017" };
        let build = rawdoc! { "version": "5.0.0", "versionArray": [5, 0, 0, 0], "ok": 1.0 };
        assert_eq!(product(&plain, Some(&build), []), Product::Unclear);
        assert_eq!(
            by_refusal(303, Some(&build)),
            Product::Other(AMAZON_DOCUMENTDB)
        );
        for code in [59, 115, 0, 13] {
            assert_eq!(by_refusal(code, Some(&build)), Product::Other(UNKNOWN));
        }
        assert_eq!(by_refusal(13, None), Product::Other(UNKNOWN));
    }
}
