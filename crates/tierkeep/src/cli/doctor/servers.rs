//! What the MongoDB servers are: versions, replica sets, write concerns, and what the databases lack.

use std::collections::BTreeSet;

use tierkeep_core::db::Role;
use tierkeep_core::store::Store as _;
use tierkeep_engine::{Finding, Severity, layout};
use tierkeep_mongo::{Deviation, ServerFacts, Servers, Topology, weaker_than_majority};

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
            Ok(facts) => findings.extend(unfit(role, &facts)),
            Err(error) => findings.push(Finding::unanswered(&error)),
        }
        if !prepared.contains(&role) {
            continue;
        }
        match store
            .deviations(&layout(role, &settings.hr_collections))
            .await
        {
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

fn deviates(role: Role, deviation: &Deviation) -> Finding {
    let prepare = "tierkeep init creates it".to_owned();
    let (message, remedy) = match deviation {
        Deviation::NoCollection(collection) => {
            (format!("{role} has no collection {collection}"), prepare)
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
    Finding::new("indexes", Severity::Warning, role, message, remedy)
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
        };
        let found = unfit(Role::SrieMainUser, &facts);
        let found: Vec<&str> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(found, checks);
    }
}
