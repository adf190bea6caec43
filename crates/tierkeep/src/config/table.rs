//! Every setting, once: its name, what it may be, its default and what it is for. Reading, `config
//! template`, `config show` and the errors are all made from this table.

use std::time::Duration;

use super::kind::ValueKind;

/// One setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The environment variable. In the settings file its name in lower case, the prefix `tierkeep_` left
    /// out or not.
    pub name: &'static str,
    /// What its value may be.
    pub kind: ValueKind,
    /// Its value where nobody gives one.
    pub default: Option<&'static str>,
    /// What it is for, in one line.
    pub doc: &'static str,
}

/// Settings that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The settings.
    pub settings: &'static [Setting],
}

impl Setting {
    /// The setting's key in the settings file.
    pub fn key(&self) -> String {
        self.name
            .strip_prefix(PREFIX)
            .unwrap_or(self.name)
            .to_ascii_lowercase()
    }

    /// The variable that names a file with the value, where there is one.
    pub fn file_variable(&self) -> Option<String> {
        self.kind
            .has_file_variant()
            .then(|| format!("{}{FILE_SUFFIX}", self.name))
    }
}

/// What the names of tierkeep's own variables start with.
pub const PREFIX: &str = "TIERKEEP_";
/// What is appended to a setting's name to give its value in a file.
pub const FILE_SUFFIX: &str = "_FILE";

/// All settings, in the order in which they are shown.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of this name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

const fn now(
    name: &'static str,
    kind: ValueKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        doc,
    }
}

const ANY_TIME: ValueKind = ValueKind::Duration {
    least: Duration::ZERO,
};
const INTERVAL: ValueKind = ValueKind::Duration {
    least: Duration::from_millis(10),
};
const COUNT: ValueKind = ValueKind::Integer {
    least: 1,
    most: 1_000_000,
};

/// The table.
pub const GROUPS: &[Group] = &[
    Group {
        title: "Databases: seven connection strings, one for all, or a directory",
        settings: &[
            now(
                "TIERKEEP_DATA_DIR",
                ValueKind::Path,
                None,
                "Keeps every database in one SQLite file under this directory; needs no server, excludes URLs.",
            ),
            now(
                "TIERKEEP_CLUSTER_URL",
                ValueKind::SecretUrl,
                None,
                "MongoDB connection string for all seven databases; a database's own variable wins.",
            ),
            now(
                "EXTERNAL_USERS_DB_URL",
                ValueKind::SecretUrl,
                None,
                "external_users: external users' documents.",
            ),
            now(
                "RASEEN_TEMP_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_temp_user: internal users' documents of the last 24 hours.",
            ),
            now(
                "RASEEN_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_main_user: internal users' documents after 24 hours.",
            ),
            now(
                "RASEEN_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_main_hr: HR records.",
            ),
            now(
                "SRIE_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "srie_main_user: backup of raseen_main_user.",
            ),
            now(
                "SRIE_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "srie_main_hr: backup of raseen_main_hr.",
            ),
            now(
                "EVALUATION_AUDIT_DB_URL",
                ValueKind::SecretUrl,
                None,
                "evaluation_audit: migration records, audit trail and control.",
            ),
            now(
                "TIERKEEP_CONNECT_RETRIES",
                ValueKind::Integer {
                    least: 0,
                    most: 1000,
                },
                Some("5"),
                "How often a database that does not answer at start is tried again.",
            ),
            now(
                "TIERKEEP_CONNECT_BACKOFF",
                ANY_TIME,
                Some("200ms"),
                "The wait before the first of these retries; doubles, with jitter, up to 10 s.",
            ),
            now(
                "TIERKEEP_UNTESTED_SERVER",
                ValueKind::Switch,
                Some("off"),
                "on starts on servers that speak the protocol of MongoDB and are another product, such as Amazon DocumentDB; every health answer warns of them.",
            ),
        ],
    },
    Group {
        title: "The service",
        settings: &[
            now(
                "TIERKEEP_LISTEN",
                ValueKind::Address,
                Some("127.0.0.1:8080"),
                "Where the service listens.",
            ),
            now(
                "TIERKEEP_SECTIONS",
                ValueKind::List,
                Some("scan_cache,analysis_progress"),
                "The sections of a user document that can be read and written.",
            ),
            now(
                "TIERKEEP_MAX_BODY",
                ValueKind::Size { least: 1 },
                None,
                "The largest body of a section; when not set, 8MiB for internal users and HR, 1MiB for external users.",
            ),
            now(
                "TIERKEEP_BODY_MEMORY",
                ValueKind::Size { least: 1 << 20 },
                Some("128MiB"),
                "The memory of bodies that are received, parsed, written and shown, of all requests together; what does not fit waits five seconds.",
            ),
            now(
                "TIERKEEP_LOG",
                ValueKind::Choice(&["json", "text"]),
                None,
                "The form of log lines; when not set, text on a terminal and json elsewhere.",
            ),
            now(
                "TIERKEEP_OPS_LISTEN",
                ValueKind::Address,
                None,
                "Moves metrics, database health and the dashboard to an address of their own.",
            ),
        ],
    },
    Group {
        title: "Who is asking",
        settings: &[
            now(
                "SECRET_KEY",
                ValueKind::Secret,
                None,
                "The secret that signs JWTs (HS256), at least 32 bytes; made once in DATA_DIR/secret.key when not set.",
            ),
            now(
                "SECRET_KEY_PREVIOUS",
                ValueKind::Secret,
                None,
                "The secret before that, still accepted while keys are rotated.",
            ),
            now(
                "TIERKEEP_JWT_PUBLIC_KEY_FILE",
                ValueKind::Path,
                None,
                "A PEM file with the public key that checks JWTs (RS256, ES256 or EdDSA), in place of SECRET_KEY.",
            ),
            now(
                "TIERKEEP_JWKS_FILE",
                ValueKind::Path,
                None,
                "A JWK set with the public keys that check JWTs, in place of SECRET_KEY.",
            ),
            now(
                "TIERKEEP_JWKS_URL",
                ValueKind::Url,
                None,
                "Where an identity provider publishes its JWK set, in place of SECRET_KEY; https unless the host is a loopback address. Fetched hourly and at an unknown kid; the last good set stays in use.",
            ),
            now(
                "TIERKEEP_JWT_ISSUER",
                ValueKind::Text,
                None,
                "The iss that JWTs must have; not checked when not set.",
            ),
            now(
                "TIERKEEP_JWT_AUDIENCE",
                ValueKind::Text,
                None,
                "The aud that JWTs must have; not checked when not set.",
            ),
            now(
                "GITHUB_API_URL",
                ValueKind::Url,
                Some("https://api.github.com"),
                "The GitHub API that checks GitHub tokens; https unless the host is a loopback address.",
            ),
            now(
                "TIERKEEP_GITHUB_CACHE_TTL",
                ANY_TIME,
                Some("5m"),
                "How long GitHub's answer about a token is remembered; refusals 30 s at most.",
            ),
            now(
                "TIERKEEP_GITHUB_VERIFY",
                ValueKind::Switch,
                Some("on"),
                "off takes any GitHub token for valid; only with a data directory and a loopback listener.",
            ),
            now(
                "TIERKEEP_GITHUB_BIND",
                ValueKind::Switch,
                Some("on"),
                "Binds a JWT subject to the first GitHub account it came with; off only warns of another one, and follows it.",
            ),
            now(
                "TIERKEEP_STRICT_IDENTITY",
                ValueKind::Switch,
                Some("off"),
                "on refuses requests that name a public user and bring credentials.",
            ),
        ],
    },
    Group {
        title: "Movement after the retention",
        settings: &[
            now(
                "TIERKEEP_RETENTION",
                ANY_TIME,
                Some("24h"),
                "How long an internal user's document stays in raseen_temp_user.",
            ),
            now(
                "TIERKEEP_SCAN_INTERVAL",
                INTERVAL,
                Some("60s"),
                "How often serve looks for documents that are due.",
            ),
            now(
                "TIERKEEP_BATCH_DOCUMENTS",
                COUNT,
                Some("1000"),
                "The most documents in a batch; serve takes 100 at most, so that requests hardly notice.",
            ),
            now(
                "TIERKEEP_BATCH_BYTES",
                ValueKind::Size { least: 1 },
                Some("4MiB"),
                "About the most bytes in a batch; serve takes 1 MiB at most.",
            ),
            now(
                "TIERKEEP_BATCHES_IN_FLIGHT",
                ValueKind::Integer {
                    least: 1,
                    most: 1024,
                },
                Some("4"),
                "The most batches at work at once; serve has one.",
            ),
            now(
                "TIERKEEP_RETRY_BACKOFF",
                ANY_TIME,
                Some("30s"),
                "The wait before a document's first retry; doubles, up to 1 h.",
            ),
            now(
                "TIERKEEP_MAX_RATE",
                ValueKind::Limit,
                Some("off"),
                "About the most documents that one process moves in a second.",
            ),
            now(
                "TIERKEEP_VERIFY",
                ValueKind::Choice(&["full", "version"]),
                Some("full"),
                "What is read back before a document leaves temp: both copies whole, or their versions and digests.",
            ),
            now(
                "TIERKEEP_VERIFY_PERIOD",
                ValueKind::Duration {
                    least: Duration::from_secs(1),
                },
                Some("7d"),
                "In which time serve compares everything in main with its backup once.",
            ),
            now(
                "TIERKEEP_FOREIGN_WRITERS",
                ValueKind::Switch,
                Some("off"),
                "on expects other programs to write documents into temp at any time.",
            ),
            now(
                "TIERKEEP_TOMBSTONE_TTL",
                ANY_TIME,
                Some("30d"),
                "How long the tombstone of an erased user or a deleted HR record stays.",
            ),
            now(
                "TIERKEEP_RECORD_RETENTION",
                ANY_TIME,
                None,
                "How long records of completed moves are kept; for ever when not set.",
            ),
        ],
    },
    Group {
        title: "HR",
        settings: &[
            now(
                "TIERKEEP_HR_COLLECTIONS",
                ValueKind::List,
                Some("hr_candidates,hr_evaluations,hr_reports"),
                "The collections of HR records.",
            ),
            now(
                "TIERKEEP_RECONCILE_INTERVAL",
                INTERVAL,
                Some("5s"),
                "How often HR records that the backup lacks are delivered.",
            ),
        ],
    },
    Group {
        title: "Public access",
        settings: &[
            now(
                "TIERKEEP_PUBLIC_RATE",
                COUNT,
                Some("50"),
                "Public requests of an address in a second; as many failed authentications.",
            ),
            now(
                "TIERKEEP_PUBLIC_BURST",
                COUNT,
                Some("100"),
                "The same at once.",
            ),
            now(
                "TIERKEEP_PUBLIC_NEW_USERS",
                COUNT,
                Some("600"),
                "New users of an address in an hour.",
            ),
            now(
                "TIERKEEP_PUBLIC_CONCURRENCY",
                COUNT,
                None,
                "Public requests at work in the databases at once, if not set 2 on SQLite and as many as there are processors on MongoDB, at least 2; the others wait in line for five seconds.",
            ),
            now(
                "TIERKEEP_PUBLIC_WRITES",
                ValueKind::Switch,
                Some("on"),
                "off makes external users read-only.",
            ),
            now(
                "TIERKEEP_TRUSTED_PROXIES",
                ValueKind::Networks,
                None,
                "The proxies whose X-Forwarded-For counts; none when not set.",
            ),
        ],
    },
    Group {
        title: "Audit and alerts",
        settings: &[
            now(
                "TIERKEEP_AUDIT_DECISIONS",
                ValueKind::Choice(&["notable", "all"]),
                Some("notable"),
                "Which decisions the audit trail holds: first, ambiguous, changed and refused ones, or all.",
            ),
            now(
                "TIERKEEP_AUDIT_KEY",
                ValueKind::Secret,
                None,
                "The key that chains the audit trail, at least 16 bytes; when not set, made once in DATA_DIR/audit.key, or kept in evaluation_audit.",
            ),
            now(
                "TIERKEEP_SPOOL_DIR",
                ValueKind::Path,
                None,
                "Where decisions wait while evaluation_audit is away; DATA_DIR/spool when not set, or else memory.",
            ),
            now(
                "TIERKEEP_ALERT_WEBHOOK_URL",
                ValueKind::SecretUrl,
                None,
                "Where alerts are posted, as Standard Webhooks; https unless the host is a loopback address.",
            ),
            now(
                "TIERKEEP_ALERT_WEBHOOK_SECRET",
                ValueKind::Secret,
                None,
                "The secret that signs them, whsec_ and Base64 of 24 to 64 bytes; made once in DATA_DIR/webhook.key when not set.",
            ),
            now(
                "TIERKEEP_ALERT_EMAIL",
                ValueKind::Secret,
                None,
                "Where alerts are mailed: smtps://USER:PASSWORD@HOST?from=ADDRESS&to=ADDRESS,ADDRESS (smtp:// for STARTTLS).",
            ),
        ],
    },
    Group {
        title: "Import of a git_Evaluator database",
        settings: &[
            now(
                "MONGODB_URL",
                ValueKind::SecretUrl,
                None,
                "The server that import-legacy and verify-import read from; it is never written.",
            ),
            now(
                "DATABASE_NAME",
                ValueKind::Text,
                None,
                "The database there, such as git_Evaluator; needed unless the path of MONGODB_URL names it.",
            ),
            now(
                "LEGACY_EXTERNAL_USERS_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's external_users, in place of MONGODB_URL or beside it.",
            ),
            now(
                "LEGACY_RASEEN_TEMP_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's raseen_temp_user, in place of MONGODB_URL or beside it.",
            ),
            now(
                "LEGACY_RASEEN_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's raseen_main_user, in place of MONGODB_URL or beside it.",
            ),
            now(
                "LEGACY_RASEEN_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's raseen_main_hr, in place of MONGODB_URL or beside it.",
            ),
            now(
                "LEGACY_SRIE_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's srie_main_user, in place of MONGODB_URL or beside it.",
            ),
            now(
                "LEGACY_SRIE_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "A half-split predecessor's srie_main_hr, in place of MONGODB_URL or beside it.",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tierkeep_core::db::Role;
    use tierkeep_core::hr::HrCollection;
    use tierkeep_core::user::Section;

    use super::*;

    #[test]
    fn names_and_keys_are_unique() {
        let names: HashSet<_> = settings().map(|setting| setting.name).collect();
        let keys: HashSet<_> = settings().map(Setting::key).collect();
        assert_eq!(names.len(), settings().count());
        assert_eq!(keys.len(), settings().count());
    }

    #[test]
    fn no_file_variable_is_a_setting_of_its_own() {
        for variable in settings().filter_map(Setting::file_variable) {
            assert_eq!(setting(&variable), None, "{variable}");
        }
    }

    #[test]
    fn every_default_can_be_read() {
        for setting in settings() {
            if let Some(default) = setting.default {
                assert!(setting.kind.read(default).is_ok(), "{}", setting.name);
            }
        }
    }

    #[test]
    fn every_role_has_its_variable() {
        for role in Role::ALL {
            let setting = setting(role.url_variable()).unwrap();
            assert_eq!(setting.kind, ValueKind::SecretUrl);
            assert_eq!(setting.doc, format!("{}: {}.", role.name(), role.purpose()));
        }
    }

    #[test]
    fn the_default_sections_are_the_core_s() {
        assert_eq!(
            setting("TIERKEEP_SECTIONS").unwrap().default,
            Some(Section::DEFAULT)
        );
    }

    #[test]
    fn the_default_hr_collections_are_the_core_s() {
        assert_eq!(
            setting("TIERKEEP_HR_COLLECTIONS").unwrap().default,
            Some(HrCollection::DEFAULT)
        );
    }

    #[test]
    fn secrets_have_no_default() {
        for setting in settings().filter(|setting| setting.kind.is_secret()) {
            assert_eq!(setting.default, None, "{}", setting.name);
        }
    }
}
