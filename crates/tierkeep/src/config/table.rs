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
    /// Its value if none is given.
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
        title: "Databases: a connection string for each, one for all, or a directory",
        settings: &[
            now(
                "TIERKEEP_DATA_DIR",
                ValueKind::Path,
                None,
                "Keeps each database in its own SQLite file in this directory; needs no server, excludes URLs.",
            ),
            now(
                "TIERKEEP_CLUSTER_URL",
                ValueKind::SecretUrl,
                None,
                "MongoDB connection string for all seven databases; a database's own variable takes precedence.",
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
                "raseen_temp_user: internal users' documents until their retention has passed.",
            ),
            now(
                "RASEEN_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_main_user: internal users' documents after their retention.",
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
                "Number of connection retries at start for a database that does not answer.",
            ),
            now(
                "TIERKEEP_CONNECT_BACKOFF",
                ANY_TIME,
                Some("200ms"),
                "Delay before the first retry; doubles, with jitter, up to 10 s.",
            ),
            now(
                "TIERKEEP_UNTESTED_SERVER",
                ValueKind::Switch,
                Some("off"),
                "on allows other products that implement the MongoDB protocol, such as Amazon DocumentDB; every health answer then has a warning.",
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
                "Address on which the service listens.",
            ),
            now(
                "TIERKEEP_SECTIONS",
                ValueKind::List,
                Some("scan_cache,analysis_progress"),
                "Sections of a user document that can be read and written.",
            ),
            now(
                "TIERKEEP_MAX_BODY",
                ValueKind::Size { least: 1 },
                None,
                "Maximum size of a section's body; if not set, 8MiB for internal users and HR, 1MiB for external \
                 users.",
            ),
            now(
                "TIERKEEP_BODY_MEMORY",
                ValueKind::Size { least: 1 << 20 },
                Some("128MiB"),
                "Memory for request and response bodies, of all requests together; a request that does not fit waits \
                 up to five seconds.",
            ),
            now(
                "TIERKEEP_LOG",
                ValueKind::Choice(&["json", "text"]),
                None,
                "Format of log lines; if not set, text on a terminal and json otherwise.",
            ),
            now(
                "TIERKEEP_OPS_LISTEN",
                ValueKind::Address,
                None,
                "Serves metrics, database health and the dashboard on this separate address.",
            ),
        ],
    },
    Group {
        title: "Authentication",
        settings: &[
            now(
                "SECRET_KEY",
                ValueKind::Secret,
                None,
                "Secret that signs JWTs (HS256), at least 32 bytes; if not set, generated once in DATA_DIR/secret.key.",
            ),
            now(
                "SECRET_KEY_PREVIOUS",
                ValueKind::Secret,
                None,
                "Previous secret, still accepted during key rotation.",
            ),
            now(
                "TIERKEEP_JWT_PUBLIC_KEY_FILE",
                ValueKind::Path,
                None,
                "PEM file with the public key that verifies JWTs (RS256, ES256 or EdDSA), instead of SECRET_KEY.",
            ),
            now(
                "TIERKEEP_JWKS_FILE",
                ValueKind::Path,
                None,
                "File with the JWK set that verifies JWTs, instead of SECRET_KEY.",
            ),
            now(
                "TIERKEEP_JWKS_URL",
                ValueKind::Url,
                None,
                "URL of an identity provider's JWK set, instead of SECRET_KEY; https unless the host is a loopback \
                 address. Fetched hourly and on an unknown kid; the last valid set stays in use.",
            ),
            now(
                "TIERKEEP_JWT_ISSUER",
                ValueKind::Text,
                None,
                "Required iss of JWTs; if not set, iss is not checked.",
            ),
            now(
                "TIERKEEP_JWT_AUDIENCE",
                ValueKind::Text,
                None,
                "Required aud of JWTs; if not set, aud is not checked.",
            ),
            now(
                "GITHUB_API_URL",
                ValueKind::Url,
                Some("https://api.github.com"),
                "URL of the GitHub API that verifies GitHub tokens; https unless the host is a loopback address.",
            ),
            now(
                "TIERKEEP_GITHUB_CACHE_TTL",
                ANY_TIME,
                Some("5m"),
                "How long GitHub's answer about a token is cached; refusals for at most 30 s.",
            ),
            now(
                "TIERKEEP_GITHUB_VERIFY",
                ValueKind::Switch,
                Some("on"),
                "off accepts any GitHub token; only with a data directory and a loopback listener.",
            ),
            now(
                "TIERKEEP_GITHUB_BIND",
                ValueKind::Switch,
                Some("on"),
                "Binds a JWT subject to the first GitHub account that it is used with; with off, a different account \
                 is accepted with a warning and becomes the bound one.",
            ),
            now(
                "TIERKEEP_STRICT_IDENTITY",
                ValueKind::Switch,
                Some("off"),
                "on refuses requests that name a public user and also carry credentials.",
            ),
        ],
    },
    Group {
        title: "Moves after the retention",
        settings: &[
            now(
                "TIERKEEP_RETENTION",
                ANY_TIME,
                Some("24h"),
                "Time for which an internal user's document stays in raseen_temp_user.",
            ),
            now(
                "TIERKEEP_SCAN_INTERVAL",
                INTERVAL,
                Some("60s"),
                "Interval at which serve scans for due documents.",
            ),
            now(
                "TIERKEEP_BATCH_DOCUMENTS",
                COUNT,
                Some("1000"),
                "Maximum number of documents in a batch; in serve at most 100 while requests come in.",
            ),
            now(
                "TIERKEEP_BATCH_BYTES",
                ValueKind::Size { least: 1 },
                Some("4MiB"),
                "Approximate maximum size of a batch; in serve at most 1 MiB while requests come in.",
            ),
            now(
                "TIERKEEP_BATCHES_IN_FLIGHT",
                ValueKind::Integer {
                    least: 1,
                    most: 1024,
                },
                Some("4"),
                "Maximum number of batches in progress; in serve one while requests come in.",
            ),
            now(
                "TIERKEEP_RETRY_BACKOFF",
                ANY_TIME,
                Some("30s"),
                "Delay before the first retry of a document's move; doubles, up to 1 h.",
            ),
            now(
                "TIERKEEP_MAX_RATE",
                ValueKind::Limit,
                Some("off"),
                "Approximate maximum number of documents that one process moves per second.",
            ),
            now(
                "TIERKEEP_VERIFY",
                ValueKind::Choice(&["full", "version"]),
                Some("full"),
                "What is read back before a document leaves temp: full reads both copies, version only their versions \
                 and digests.",
            ),
            now(
                "TIERKEEP_VERIFY_PERIOD",
                ValueKind::Duration {
                    least: Duration::from_secs(1),
                },
                Some("7d"),
                "Period in which serve compares everything in main with its backup once.",
            ),
            now(
                "TIERKEEP_FOREIGN_WRITERS",
                ValueKind::Switch,
                Some("off"),
                "on takes account of other programs that write to temp at any time.",
            ),
            now(
                "TIERKEEP_TOMBSTONE_TTL",
                ANY_TIME,
                Some("30d"),
                "How long the tombstone of an erased user or a deleted HR record is kept.",
            ),
            now(
                "TIERKEEP_RECORD_RETENTION",
                ANY_TIME,
                None,
                "How long records of completed moves are kept; if not set, permanently.",
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
                "Collections of HR records.",
            ),
            now(
                "TIERKEEP_RECONCILE_INTERVAL",
                INTERVAL,
                Some("5s"),
                "Interval at which HR records that are missing in the backup are delivered.",
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
                "Public requests per address and second; the same limit applies to failed authentications.",
            ),
            now(
                "TIERKEEP_PUBLIC_BURST",
                COUNT,
                Some("100"),
                "Burst of such requests per address.",
            ),
            now(
                "TIERKEEP_PUBLIC_NEW_USERS",
                COUNT,
                Some("600"),
                "New users per address and hour.",
            ),
            now(
                "TIERKEEP_PUBLIC_CONCURRENCY",
                COUNT,
                None,
                "Public requests that use the databases concurrently; if not set, 2 on SQLite, and on MongoDB the \
                 number of processors, at least 2. Others wait up to five seconds.",
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
                "Proxies whose X-Forwarded-For is trusted; if not set, none.",
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
                "Decisions that are recorded in the audit trail: notable ones (first, ambiguous, changed and refused), \
                 or all.",
            ),
            now(
                "TIERKEEP_AUDIT_KEY",
                ValueKind::Secret,
                None,
                "Key that chains the audit trail, at least 16 bytes; if not set, generated once in DATA_DIR/audit.key, \
                 or kept in evaluation_audit.",
            ),
            now(
                "TIERKEEP_SPOOL_DIR",
                ValueKind::Path,
                None,
                "Directory where decisions are spooled while evaluation_audit is unavailable; if not set, \
                 DATA_DIR/spool, or memory without a data directory.",
            ),
            now(
                "TIERKEEP_ALERT_WEBHOOK_URL",
                ValueKind::SecretUrl,
                None,
                "URL to which alerts are posted as Standard Webhooks; https unless the host is a loopback address.",
            ),
            now(
                "TIERKEEP_ALERT_WEBHOOK_SECRET",
                ValueKind::Secret,
                None,
                "Secret that signs the webhooks, whsec_ and Base64 of 24 to 64 bytes; if not set, generated once in \
                 DATA_DIR/webhook.key.",
            ),
            now(
                "TIERKEEP_ALERT_EMAIL",
                ValueKind::Secret,
                None,
                "Mail server and addresses for alerts: smtps://USER:PASSWORD@HOST?from=ADDRESS&to=ADDRESS,ADDRESS (smtp:// for STARTTLS).",
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
                "Server that import-legacy and verify-import read from; they never write to it.",
            ),
            now(
                "DATABASE_NAME",
                ValueKind::Text,
                None,
                "Database on that server, such as git_Evaluator; required unless the path of MONGODB_URL names it.",
            ),
            now(
                "LEGACY_EXTERNAL_USERS_DB_URL",
                ValueKind::SecretUrl,
                None,
                "external_users of a partly split predecessor, instead of or in addition to MONGODB_URL.",
            ),
            now(
                "LEGACY_RASEEN_TEMP_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_temp_user of a partly split predecessor, instead of or in addition to MONGODB_URL.",
            ),
            now(
                "LEGACY_RASEEN_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_main_user of a partly split predecessor, instead of or in addition to MONGODB_URL.",
            ),
            now(
                "LEGACY_RASEEN_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "raseen_main_hr of a partly split predecessor, instead of or in addition to MONGODB_URL.",
            ),
            now(
                "LEGACY_SRIE_MAIN_USER_DB_URL",
                ValueKind::SecretUrl,
                None,
                "srie_main_user of a partly split predecessor, instead of or in addition to MONGODB_URL.",
            ),
            now(
                "LEGACY_SRIE_MAIN_HR_DB_URL",
                ValueKind::SecretUrl,
                None,
                "srie_main_hr of a partly split predecessor, instead of or in addition to MONGODB_URL.",
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
