//! Which rights on a database its user needs, and which it lacks, by what the server says of the connection. Pure.
//!
//! Found by trial on a real server: with these actions everything works, and without each of them something does not
//! (`acceptance/servers/rights`). Creating a collection takes no right of its own: who may insert may create.

use bson::raw::{RawBsonRef, RawDocument};
use tierkeep_core::store::Layout;

/// What is written in place of a collection for every collection of a database.
const EVERY: &str = "";

/// What a right is needed for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Need {
    /// Every start, and the work after it.
    Work,
    /// Making what is missing: indexes and validators.
    Prepare,
    /// Behind a router: seeing what collections are sharded by.
    ShardKeys,
    /// Behind a router: naming a shard that is away.
    ShardNames,
}

/// Something that a privilege is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Resource {
    /// A collection of a database, or every one.
    Collection(String, String),
    /// The cluster.
    Cluster,
}

/// A right that the user of a database lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingRight {
    /// The action, as privileges name it.
    pub action: &'static str,
    /// What it is needed for.
    pub need: Need,
    /// What it is needed on.
    resources: Vec<Resource>,
    /// The role that would get it.
    role: Role,
}

/// A role of the user: its name and its database.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Role {
    name: String,
    database: String,
}

/// The name of the roles in docs/operations/servers.md.
const DOCUMENTED_ROLE: &str = "tierkeep";

impl MissingRight {
    /// The command of the shell that grants it.
    pub fn grant(&self) -> String {
        let privileges: Vec<String> = self.resources.iter().map(|it| self.privilege(it)).collect();
        format!(
            "db.getSiblingDB({:?}).grantPrivilegesToRole({:?}, [{}])",
            self.role.database,
            self.role.name,
            privileges.join(", ")
        )
    }

    fn privilege(&self, resource: &Resource) -> String {
        let action = self.action;
        let resource = match resource {
            Resource::Collection(database, collection) => {
                format!("{{ db: {database:?}, collection: {collection:?} }}")
            }
            Resource::Cluster => "{ cluster: true }".to_owned(),
        };
        format!("{{ resource: {resource}, actions: [{action:?}] }}")
    }
}

/// The actions that are needed in a database, and what for.
fn actions(layout: &Layout) -> Vec<(&'static str, Need)> {
    let mut actions = vec![
        ("find", Need::Work),
        ("insert", Need::Work),
        ("update", Need::Work),
        ("remove", Need::Work),
        ("listCollections", Need::Work),
        ("listIndexes", Need::Work),
        ("createIndex", Need::Prepare),
    ];
    if layout.collections.iter().any(|it| it.keeps_out.is_some()) {
        actions.push(("collMod", Need::Prepare));
    }
    actions
}

/// The rights that the user of this connection lacks in `database`, by the answer to `connectionStatus`; none if no
/// user is authenticated, because a server without access control grants everything.
pub(crate) fn missing(
    status: &RawDocument,
    database: &str,
    layout: &Layout,
    is_routed: bool,
) -> Vec<MissingRight> {
    let Ok(known) = status.get_document("authInfo") else {
        return Vec::new();
    };
    let is_anonymous = known
        .get_array("authenticatedUsers")
        .map_or(true, |users| users.into_iter().next().is_none());
    if is_anonymous {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for (action, need) in actions(layout) {
        let resources = lacking(known, database, action, layout, need);
        if !resources.is_empty() {
            missing.push(MissingRight {
                action,
                need,
                resources,
                role: own_role(known, database),
            });
        }
    }
    if is_routed {
        missing.extend(of_the_cluster(known));
    }
    missing
}

/// Where in the database an action is not allowed: everywhere, or in some collections.
fn lacking(
    known: &RawDocument,
    database: &str,
    action: &str,
    layout: &Layout,
    need: Need,
) -> Vec<Resource> {
    let on = |collection: &str| Resource::Collection(database.to_owned(), collection.to_owned());
    let is_allowed = |resource: &Resource| allows(known, resource, action);
    let everywhere = on(EVERY);
    if is_allowed(&everywhere) {
        return Vec::new();
    }
    // A list of collections is asked of the database as a whole.
    if action == "listCollections" {
        return vec![everywhere];
    }
    let concerned = layout.collections.iter().filter(|it| match (need, action) {
        (_, "collMod") => it.keeps_out.is_some(),
        (Need::Prepare, _) => it.indexes.iter().any(|index| index.fields != ["_id"]),
        (Need::Work | Need::ShardKeys | Need::ShardNames, _) => true,
    });
    let concerned: Vec<Resource> = concerned.map(|it| on(&it.name)).collect();
    let lacking: Vec<Resource> = concerned
        .iter()
        .filter(|it| !is_allowed(it))
        .cloned()
        .collect();
    if lacking.len() == concerned.len() && !lacking.is_empty() {
        return vec![everywhere];
    }
    lacking
}

fn of_the_cluster(known: &RawDocument) -> Vec<MissingRight> {
    let tables = Resource::Collection("config".to_owned(), "collections".to_owned());
    let needed = [
        ("find", Need::ShardKeys, tables),
        ("connPoolStats", Need::ShardNames, Resource::Cluster),
    ];
    let lacking = needed
        .into_iter()
        .filter(|(action, _, resource)| !allows(known, resource, action));
    lacking
        .map(|(action, need, resource)| MissingRight {
            action,
            need,
            resources: vec![resource],
            // Roles of one database cannot have rights on another.
            role: own_role(known, "admin"),
        })
        .collect()
}

/// Whether a privilege of the user allows `action` on `resource`.
fn allows(known: &RawDocument, resource: &Resource, action: &str) -> bool {
    let privileges = known.get_array("authenticatedUserPrivileges");
    let privileges = privileges.into_iter().flatten().map_while(Result::ok);
    privileges
        .filter_map(RawBsonRef::as_document)
        .any(|privilege| {
            let names = privilege.get_array("actions");
            let mut names = names.into_iter().flatten().map_while(Result::ok);
            let is_named = names.any(|name| name.as_str() == Some(action));
            let covers = privilege.get_document("resource");
            is_named && covers.is_ok_and(|covering| covers_all_of(covering, resource))
        })
}

/// Source: the manual, "Resource Document".
fn covers_all_of(covering: &RawDocument, resource: &Resource) -> bool {
    let says = |name: &str| covering.get_bool(name).unwrap_or_default();
    if says("anyResource") {
        return true;
    }
    let Resource::Collection(database, collection) = resource else {
        return says("cluster");
    };
    let (Ok(db), Ok(of_collection)) = (covering.get_str("db"), covering.get_str("collection"))
    else {
        return false;
    };
    (db.is_empty() || db == database) && (of_collection.is_empty() || of_collection == collection)
}

/// A role of the user that is defined in `database`; the documented one where there is none that could be extended.
fn own_role(known: &RawDocument, database: &str) -> Role {
    const BUILT_IN: [&str; 6] = [
        "read",
        "readWrite",
        "dbAdmin",
        "userAdmin",
        "dbOwner",
        "root",
    ];
    let roles = known.get_array("authenticatedUserRoles");
    let roles = roles.into_iter().flatten().map_while(Result::ok);
    let own = roles.filter_map(RawBsonRef::as_document).find_map(|role| {
        let (name, of) = (role.get_str("role").ok()?, role.get_str("db").ok()?);
        (of == database && !BUILT_IN.contains(&name)).then(|| name.to_owned())
    });
    Role {
        name: own.unwrap_or_else(|| DOCUMENTED_ROLE.to_owned()),
        database: database.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;
    use tierkeep_core::store::{CollectionLayout, IndexLayout};

    use super::*;

    const ALL: [&str; 8] = [
        "find",
        "insert",
        "update",
        "remove",
        "listCollections",
        "listIndexes",
        "createIndex",
        "collMod",
    ];

    fn layout() -> Layout {
        let collection = |name: &str, indexes: &[IndexLayout], keeps_out| CollectionLayout {
            name: name.to_owned(),
            indexes: indexes.to_vec(),
            keeps_out,
        };
        Layout {
            collections: vec![
                collection("tierkeep_identity", &[], None),
                collection(
                    "users",
                    &[IndexLayout::over(&["user_id"])],
                    Some("external_"),
                ),
            ],
        }
    }

    fn status(privileges: Vec<(RawDocumentBuf, Vec<&str>)>) -> RawDocumentBuf {
        let mut all = bson::raw::RawArrayBuf::new();
        for (resource, actions) in privileges {
            let actions = bson::raw::RawArrayBuf::from_iter(actions);
            all.push(rawdoc! { "resource": resource, "actions": actions });
        }
        rawdoc! { "authInfo": {
            "authenticatedUsers": [{ "user": "u", "db": "main" }],
            "authenticatedUserRoles": [{ "role": "readWrite", "db": "main" }, { "role": "own", "db": "main" }],
            "authenticatedUserPrivileges": all,
        } }
    }

    fn grants(status: &RawDocument) -> Vec<String> {
        let missing = missing(status, "main", &layout(), false);
        missing.iter().map(MissingRight::grant).collect()
    }

    fn on(collection: &str) -> RawDocumentBuf {
        rawdoc! { "db": "main", "collection": collection }
    }

    #[test]
    fn each_right_that_is_taken_away_is_named_with_its_grant() {
        assert!(grants(&status(vec![(on(""), ALL.to_vec())])).is_empty());
        for gone in ALL {
            let kept = ALL.into_iter().filter(|it| *it != gone).collect();
            let expected = format!(
                "db.getSiblingDB(\"main\").grantPrivilegesToRole(\"own\", [{{ resource: {{ db: \"main\", collection: \"\" }}, \
                 actions: [\"{gone}\"] }}])"
            );
            assert_eq!(grants(&status(vec![(on(""), kept)])), [expected]);
        }
    }

    #[test]
    fn rights_may_come_from_wider_or_narrower_resources() {
        for wide in [
            rawdoc! { "anyResource": true },
            rawdoc! { "db": "", "collection": "" },
        ] {
            assert!(grants(&status(vec![(wide, ALL.to_vec())])).is_empty());
        }
        let elsewhere = rawdoc! { "db": "temp", "collection": "" };
        assert_eq!(
            grants(&status(vec![(elsewhere, ALL.to_vec())])).len(),
            ALL.len()
        );
        let narrow = vec![
            (on(""), vec!["listCollections"]),
            (
                on("tierkeep_identity"),
                vec!["find", "insert", "update", "remove", "listIndexes"],
            ),
            (on("users"), ALL.to_vec()),
        ];
        assert!(grants(&status(narrow.clone())).is_empty());
        let mut narrower = narrow;
        narrower[1].1.retain(|action| *action != "insert");
        let missing = grants(&status(narrower));
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].contains("\"tierkeep_identity\""), "{missing:?}");
    }

    #[test]
    fn a_server_without_access_control_lacks_nothing() {
        let open = rawdoc! { "authInfo": {
            "authenticatedUsers": [], "authenticatedUserRoles": [], "authenticatedUserPrivileges": [],
        } };
        assert!(grants(&open).is_empty());
        assert!(grants(&rawdoc! { "ok": 1.0 }).is_empty());
    }

    #[test]
    fn behind_a_router_the_cluster_is_looked_at_too() {
        let of_database = status(vec![(on(""), ALL.to_vec())]);
        let missing = missing(&of_database, "main", &layout(), true);
        let named: Vec<(&str, Need)> = missing.iter().map(|it| (it.action, it.need)).collect();
        assert_eq!(
            named,
            [
                ("find", Need::ShardKeys),
                ("connPoolStats", Need::ShardNames)
            ]
        );
        assert_eq!(
            missing[0].grant(),
            "db.getSiblingDB(\"admin\").grantPrivilegesToRole(\"tierkeep\", [{ resource: { db: \"config\", collection: \
             \"collections\" }, actions: [\"find\"] }])"
        );
        assert!(missing[1].grant().contains("{ cluster: true }"));
        let whole = status(vec![
            (on(""), ALL.to_vec()),
            (
                rawdoc! { "db": "config", "collection": "collections" },
                vec!["find"],
            ),
            (rawdoc! { "cluster": true }, vec!["connPoolStats"]),
        ]);
        assert!(super::missing(&whole, "main", &layout(), true).is_empty());
    }
}
