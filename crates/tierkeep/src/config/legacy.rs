//! Where the predecessor's data is. Owns which databases an import reads; must never fall back to a server or a name
//! that was not given.

use secrecy::SecretString;

use super::loaded::Loaded;
use super::problem::{Problem, Problems};
use super::settings::{Settings, finish};

/// The connection string of one database of the predecessor.
pub const URL: &str = "MONGODB_URL";
/// Its name.
pub const NAME: &str = "DATABASE_NAME";

/// The variables of the split databases, and the database that each reads where its path names none.
pub const SPLIT: [(&str, &str); 6] = [
    ("LEGACY_EXTERNAL_USERS_DB_URL", "external_users"),
    ("LEGACY_RASEEN_TEMP_USER_DB_URL", "raseen_temp_user"),
    ("LEGACY_RASEEN_MAIN_USER_DB_URL", "raseen_main_user"),
    ("LEGACY_RASEEN_MAIN_HR_DB_URL", "raseen_main_hr"),
    ("LEGACY_SRIE_MAIN_USER_DB_URL", "srie_main_user"),
    ("LEGACY_SRIE_MAIN_HR_DB_URL", "srie_main_hr"),
];

/// The most bytes of a database's name; the server takes no more.
const NAME_BYTES: usize = 63;

/// One database of the predecessor.
#[derive(Clone, Debug)]
pub struct LegacySource {
    /// The setting that leads there.
    pub variable: &'static str,
    /// Its connection string.
    pub url: SecretString,
    /// Its name.
    pub database: String,
}

/// What a verb needs that reads the predecessor's data.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// What every verb needs.
    pub settings: Settings,
    /// The databases to read.
    pub sources: Vec<LegacySource>,
}

impl ImportSettings {
    /// The settings of such a verb.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn of(loaded: &Loaded) -> Result<Self, Problems> {
        let mut problems = loaded.problems().to_vec();
        let mut missing = Vec::new();
        let settings = Settings::collect(loaded, &mut missing, &mut problems);
        let mut sources = Vec::new();
        for (variable, name) in SPLIT {
            if let Some(url) = understood(loaded, variable, &mut problems) {
                let path = tierkeep_mongo::database_in_path(url);
                sources.push(LegacySource {
                    variable,
                    url: url.clone(),
                    database: path.unwrap_or_else(|| name.to_owned()),
                });
            }
        }
        let split = SPLIT.iter().any(|(name, _)| loaded.secret(name).is_some());
        let name = name(loaded, &mut problems);
        if let Some(url) = understood(loaded, URL, &mut problems) {
            match name.or_else(|| tierkeep_mongo::database_in_path(url)) {
                Some(database) => sources.insert(
                    0,
                    LegacySource {
                        variable: URL,
                        url: url.clone(),
                        database,
                    },
                ),
                None => missing.push((NAME, "the predecessor's database".to_owned())),
            }
        } else if !split && loaded.secret(URL).is_none() {
            missing.push((URL, "the server of the predecessor's database".to_owned()));
            if name.is_none() {
                missing.push((NAME, "the predecessor's database".to_owned()));
            }
        }
        let all = settings.map(|settings| Self { settings, sources });
        finish(all, loaded, &missing, problems)
    }
}

/// A connection string that the driver understands.
fn understood<'a>(
    loaded: &'a Loaded,
    variable: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<&'a SecretString> {
    let url = loaded.secret(variable)?;
    let Some(reason) = tierkeep_mongo::misunderstood(url) else {
        return Some(url);
    };
    let source = loaded.source(variable);
    let message = format!("{variable} ({source}) is not a connection string: {reason}");
    problems.push(Problem::new(variable, message));
    None
}

fn name(loaded: &Loaded, problems: &mut Vec<Problem>) -> Option<String> {
    let name = loaded.text(NAME)?;
    if name.len() > NAME_BYTES || name.contains(['/', '\\', '.', ' ', '"', '$']) {
        let source = loaded.source(NAME);
        let message = format!(
            "{NAME} is {name:?} ({source}); expected the name of a database: at most {NAME_BYTES} bytes without \
             / \\ . \" $ and spaces"
        );
        problems.push(Problem::new(NAME, message));
        return None;
    }
    Some(name.to_owned())
}
