//! What the MongoDB servers are: products, versions, replica sets, write concerns, what their users may not do, and what the
//! databases lack.

use std::collections::BTreeSet;

use tierkeep_core::db::Role;
use tierkeep_core::store::Store as _;
use tierkeep_engine::{Finding, Severity, layout};
use tierkeep_mongo::{
    Deviation, MissingRight, Need, ServerFacts, Servers, TESTED, Topology, weaker_than_majority,
};

use crate::config::{Backend, Settings};
use crate::open::mongo_stores;

/// The oldest major version that will do.
const OLDEST: u32 = 5;

/// Looks at the servers that answered, and at the databases that were prepared.
pub(super) async fn examine(
    settings: &Settings,
    servers: &Servers,
    reached: &BTreeSet<Role>,
    prepared: &BTreeSet<Role>,
) -> Vec<Finding> {
    let mut findings = write_concerns(settings);
    let Ok(stores) = mongo_stores(servers, settings).await else {
        return findings;
    };
    for store in stores {
        let role = store.role();
        if !reached.contains(&role) {
            continue;
        }
        match store.server_facts().await {
            Ok(facts) => {
                findings.extend(unfit(role, &facts));
                findings.extend(untested(role, &facts, settings.untested_server));
            }
            Err(error) => findings.push(Finding::unanswered(&error)),
        }
        let layout = layout(role, &settings.hr_collections);
        match store.missing_rights(&layout).await {
            Ok(missing) => findings.extend(missing.iter().map(|it| lacks(role, it))),
            Err(error) => findings.push(Finding::unanswered(&error)),
        }
        if !prepared.contains(&role) {
            continue;
        }
        match store.deviations(&layout).await {
            Ok(found) => findings.extend(found.iter().map(|found| deviates(role, found))),
            Err(error) => findings.push(Finding::unanswered(&error)),
        }
    }
    findings
}

fn write_concerns(settings: &Settings) -> Vec<Finding> {
    let Backend::Mongo(connections) = &settings.backend else {
        return Vec::new();
    };
    let weak = connections.iter().filter_map(|(role, connection)| {
        let asked = weaker_than_majority(&connection.url)?;
        let variable = role.url_variable();
        let message = format!(
            "the connection string of {role} sets {asked}, which has no effect: every write uses the write concern \
             majority"
        );
        let remedy = format!("remove {asked} from {variable} or TIERKEEP_CLUSTER_URL");
        let severity = Severity::Warning;
        Some(Finding::new("write_concern", severity, *role, message, remedy))
    });
    weak.collect()
}

fn unfit(role: Role, facts: &ServerFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unfit = |check, message: String, remedy: &str| {
        findings.push(Finding::new(check, Severity::Error, role, message, remedy));
    };
    let version = &facts.version;
    let major = version.split('.').next();
    let major = major.and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        unfit(
            "version",
            format!("the server of {role} is MongoDB {version}; {OLDEST}.0 or later is required"),
            "update the server",
        );
    }
    if facts.topology == Topology::Standalone {
        unfit(
            "topology",
            format!(
                "the server of {role} is standalone: without a replica set, a majority is this one server"
            ),
            "start it with --replSet NAME and run rs.initiate(), preferably with three members",
        );
    }
    findings
}

/// What the tests do not cover: another product, or a series of releases that none of the tested ones belongs to.
fn untested(role: Role, facts: &ServerFacts, is_taken: bool) -> Option<Finding> {
    if let Some(product) = facts.imitator {
        let message = format!("the server of {role} is {product}, which was not tested");
        let (severity, remedy) = if is_taken {
            let remedy = "use MongoDB; tierkeep starts because of TIERKEEP_UNTESTED_SERVER=on";
            (Severity::Warning, remedy)
        } else {
            let remedy = "use MongoDB, or set TIERKEEP_UNTESTED_SERVER=on to start anyway";
            (Severity::Error, remedy)
        };
        return Some(Finding::new("product", severity, role, message, remedy));
    }
    let version = &facts.version;
    let is_tested = TESTED
        .iter()
        .any(|tested| series(tested) == series(version));
    let is_newer = series(version) > series(TESTED.last()?);
    if is_tested || !is_newer {
        return None;
    }
    let message = format!(
        "the server of {role} is MongoDB {version}; the tests of this version of tierkeep ran on {}",
        TESTED.join(", ")
    );
    let remedy = "docs/operations/servers.md says what was tested; try a newer release next to the present one first";
    Some(Finding::new(
        "version",
        Severity::Note,
        role,
        message,
        remedy,
    ))
}

/// The first two numbers of a version.
fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next())
}

fn lacks(role: Role, missing: &MissingRight) -> Finding {
    let action = missing.action;
    let (severity, consequence) = match missing.need {
        Need::Work => (Severity::Error, "tierkeep cannot work without it"),
        Need::Prepare => (
            Severity::Warning,
            "indexes and validators cannot be created without it, neither by tierkeep init nor for a lost collection",
        ),
        Need::ShardKeys => (
            Severity::Warning,
            "the shard keys of the collections cannot be checked without it",
        ),
        Need::ShardNames => (
            Severity::Note,
            "an unavailable shard cannot be named without it",
        ),
    };
    Finding::new(
        "rights",
        severity,
        role,
        format!(
            "the user of {} lacks the right {action}: {consequence}",
            role.url_variable()
        ),
        missing.grant(),
    )
}

fn deviates(role: Role, deviation: &Deviation) -> Finding {
    let prepare = "tierkeep init creates it".to_owned();
    let (message, remedy) = match deviation {
        Deviation::NoCollection(collection) => {
            (format!("{role} has no collection {collection}"), prepare)
        }
        Deviation::NoIndex { collection, index } if index.is_optional => {
            let fields = index.fields.join(", ");
            let keys = index.fields.iter().map(|field| format!("\"{field}\": 1"));
            let keys = keys.collect::<Vec<_>>().join(", ");
            (
                format!(
                    "{role}.{collection} has no index on ({fields}): tierkeep verify --quick reads its documents instead"
                ),
                format!(
                    "if that takes too long, run in that database: db.{collection}.createIndex({{ {keys} }})"
                ),
            )
        }
        Deviation::NoIndex { collection, index } => {
            let fields = index.fields.join(", ");
            (
                format!("{role}.{collection} has no index on ({fields})"),
                prepare,
            )
        }
        Deviation::NoValidator {
            collection,
            keeps_out,
        } => (
            format!(
                "{role}.{collection} has no validator: other programs can store ids that begin with {keeps_out} in it"
            ),
            "tierkeep init creates it; its user needs the privilege collMod (role dbAdmin)"
                .to_owned(),
        ),
        Deviation::OtherUnique { collection, index } => (
            format!(
                "{role}.{collection} has the unique index {index:?}, which can refuse documents"
            ),
            format!(
                "if it is not needed, run in that database: db.{collection}.dropIndex(\"{index}\")"
            ),
        ),
        Deviation::Choosy {
            collection,
            index,
            kind,
        } => (
            format!(
                "{role}.{collection} has the {kind} index {index:?}, which refuses some documents because of their \
                 content"
            ),
            format!(
                "if no query needs it, run in that database: db.{collection}.dropIndex(\"{index}\"); otherwise keep it \
                 on a copy of the collection"
            ),
        ),
    };
    let is_optional = matches!(deviation, Deviation::NoIndex { index, .. } if index.is_optional);
    let severity = if is_optional {
        Severity::Note
    } else {
        Severity::Warning
    };
    Finding::new("indexes", severity, role, message, remedy)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("6.0.5", Topology::ReplicaSet, &[])]
    #[case("8.2.0-rc1", Topology::Sharded, &[])]
    #[case("4.4.29", Topology::ReplicaSet, &["version"])]
    #[case("6.0.5", Topology::Standalone, &["topology"])]
    #[case("unheard of", Topology::Standalone, &["version", "topology"])]
    fn a_server_is_fit_or_not(
        #[case] version: &str,
        #[case] topology: Topology,
        #[case] checks: &[&str],
    ) {
        let facts = ServerFacts {
            version: version.to_owned(),
            topology,
            imitator: None,
        };
        let found = unfit(Role::SrieMainUser, &facts);
        let found: Vec<&str> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(found, checks);
    }

    #[rstest]
    #[case("5.0.4", None)]
    #[case("6.0.31", None)]
    #[case("5.3.1", None)]
    #[case("7.0.5", Some(Severity::Note))]
    #[case("8.2.0-rc1", Some(Severity::Note))]
    fn a_newer_server_than_the_tested_ones_is_a_note(
        #[case] version: &str,
        #[case] severity: Option<Severity>,
    ) {
        let facts = ServerFacts {
            version: version.to_owned(),
            topology: Topology::ReplicaSet,
            imitator: None,
        };
        let found = untested(Role::SrieMainUser, &facts, false);
        assert_eq!(found.as_ref().map(|it| it.severity), severity);
        assert!(found.is_none_or(|it| it.message.contains("5.0.4, 6.0.5, 6.0.27")));
    }

    #[test]
    fn another_product_is_an_error_unless_it_is_taken() {
        let facts = ServerFacts {
            version: "7.0.77".to_owned(),
            topology: Topology::ReplicaSet,
            imitator: Some("FerretDB"),
        };
        for (is_taken, severity) in [(false, Severity::Error), (true, Severity::Warning)] {
            let found = untested(Role::SrieMainUser, &facts, is_taken).unwrap();
            assert_eq!(found.severity, severity);
            assert!(found.message.contains("FerretDB"));
            assert!(found.remedy.contains("TIERKEEP_UNTESTED_SERVER=on"));
        }
    }
}
