//! One user's data as one file, for that user: what is stored, as it is shown, and the location of each copy.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use tierkeep_core::content::{Damaged, Inexact, rfc3339, show_other, show_user};
use tierkeep_core::db::Role;
use tierkeep_core::user::{Section, UserId};

use crate::inspect::Inspector;
use crate::inspect::explain::Explanation;
use crate::mover::MoverSettings;
use crate::transfer::dump::files::{new_directory, new_file, sync_directory, write_atomically};
use crate::transfer::dump::{DumpError, DumpService, blocking};
use crate::users::{Found, Users};

/// What the file says it is.
const FORMAT: &str = "tierkeep-user";
const FORMAT_VERSION: u32 = 1;

/// What an export of one user wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PersonExported {
    /// Whose data.
    pub user_id: String,
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many copies of the user's document there are.
    pub copies: u64,
    /// Databases that did not answer and may hold another copy.
    pub unreachable: Vec<Role>,
    /// How many values the file does not hold exactly; it names them under `inexact`.
    pub inexact: u64,
}

impl DumpService {
    /// Writes what is stored of the first of `candidates` of whom anything is, as JSON, to a file named after the
    /// user in `directory`, which must be empty or not there. `sections` are shown as sections; what other
    /// programs stored in the document is shown beside them.
    ///
    /// # Errors
    /// [`DumpError::NoUser`] where nothing is stored of any of them; nothing was made then.
    pub async fn export_user(
        &self,
        directory: &Path,
        candidates: &[UserId],
        sections: &[Section],
        settings: MoverSettings,
    ) -> Result<PersonExported, DumpError> {
        let users = Users::new(std::sync::Arc::clone(&self.engine));
        let inspector = Inspector::new(std::sync::Arc::clone(&self.engine), settings);
        let mut erased = None;
        for user in candidates {
            let Some(found) = users.look(user).await? else {
                erased = erased.or(inspector.explain(user).await.filter(|it| it.erased));
                continue;
            };
            let Some(explanation) = inspector.explain(user).await else {
                continue;
            };
            let exported_at = rfc3339(self.engine.clock().now());
            let (shown, inexact) =
                render(&found, &explanation, sections, &exported_at).map_err(|Damaged| {
                    DumpError::Unreadable {
                        user: user.clone(),
                        database: found.source,
                    }
                })?;
            let file = directory.join(format!("{user}.json"));
            let bytes = write(directory, &file, &shown).await?;
            return Ok(PersonExported {
                user_id: user.to_string(),
                file,
                bytes,
                copies: u64::try_from(explanation.copies.len()).unwrap_or(u64::MAX),
                unreachable: explanation.unreachable,
                inexact,
            });
        }
        let erased = erased.map(|it| format!("{} was erased: no data is stored", it.user_id));
        Err(DumpError::NoUser(erased.unwrap_or_else(|| {
            let ids: Vec<&str> = candidates.iter().map(UserId::as_str).collect();
            format!("no such user: {}", ids.join(" or "))
        })))
    }
}

fn render(
    found: &Found,
    explanation: &Explanation,
    sections: &[Section],
    exported_at: &str,
) -> Result<(Value, u64), Damaged> {
    let names = || sections.iter().map(Section::as_str);
    let mut user = show_user(&found.document, names())?;
    let mut other = show_other(&found.document, names())?;
    let mut inexact = Inexact::default();
    inexact.extend("/user", std::mem::take(&mut user.inexact));
    inexact.extend("/other", std::mem::take(&mut other.inexact));
    let copies: Vec<Value> = explanation
        .copies
        .iter()
        .map(|copy| {
            json!({
                "database": copy.database,
                "collection": copy.collection,
                "version": copy.version,
                "updated_at": copy.updated_at,
                "state": copy.state,
            })
        })
        .collect();
    let person = json!({
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "exported_at": exported_at,
        "user_id": explanation.user_id,
        "user_type": explanation.user_type,
        "source": found.source,
        "user": user.into_value(),
        "other": other.into_value(),
        "inexact": { "count": inexact.count, "values": inexact.named },
        "copies": copies,
        "unreachable": explanation.unreachable,
    });
    Ok((person, inexact.count))
}

async fn write(directory: &Path, file: &Path, shown: &Value) -> Result<u64, DumpError> {
    let mut text = serde_json::to_vec_pretty(shown)
        .map_err(|error| DumpError::io(file, "written")(error.into()))?;
    text.push(b'\n');
    let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let (directory, file) = (directory.to_owned(), file.to_owned());
    blocking(move || {
        new_directory(&directory)?;
        let part = file.with_extension("json.part");
        new_file(&part)?;
        write_atomically(&file, &part, &text)?;
        sync_directory(&directory)
    })
    .await?;
    Ok(bytes)
}
