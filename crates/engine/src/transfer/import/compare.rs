//! What is there against what should be there: by digest of the whole content, not by what documents say of
//! themselves.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location};
use tierkeep_core::legacy::Composed;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::{UserId, UserType};

use crate::claims::{CurrentCopy, by_user};
use crate::transfer::import::Import;
use crate::transfer::import::stored_form::{ImportedState, standing, stored_form};

/// What is there of one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// Exactly what should be.
    Equal,
    /// Nothing.
    Missing,
    /// What an import stored, unchanged since, but with other content; or a backup that lacks it.
    Different,
    /// What an import stored and what was changed since.
    Changed,
    /// The user's own, never imported.
    Own,
    /// The user was erased.
    Erased,
}

impl Import {
    /// Compares each user with what is stored; writes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer.
    pub async fn compare(&self, expected: &[Composed]) -> Result<Vec<Compared>, StoreError> {
        let all: Vec<&Composed> = expected.iter().collect();
        let erased = self.erased(&all).await?;
        let of_type = |user_type: UserType| -> Vec<String> {
            let users = expected.iter().map(|one| &one.user);
            users
                .filter(|user| user.user_type() == user_type)
                .map(UserId::to_string)
                .collect()
        };
        let engine = &self.engine;
        let internal = of_type(UserType::Internal);
        let external = of_type(UserType::External);
        let whole = || Find::new(Query::All).max_bytes(usize::MAX);
        let mut in_external = by_user(engine.databases.external_db(), &external, whole()).await?;
        // Temp, then main: a move writes main before it empties temp.
        let mut in_temp = by_user(engine.databases.raseen_temp_db(), &internal, whole()).await?;
        let mut in_main = by_user(engine.databases.raseen_main_db(), &internal, whole()).await?;
        let mut in_srie = by_user(engine.databases.srie_main_db(), &internal, whole()).await?;
        let mut compared = Vec::with_capacity(expected.len());
        for (one, erased) in expected.iter().zip(erased) {
            let user = &one.user;
            let of = |found: &mut std::collections::HashMap<String, Vec<RawDocumentBuf>>| {
                CurrentCopy::among(found.remove(user.as_str()).unwrap_or_default(), user)
            };
            let outcome = match user.user_type() {
                UserType::External => against(one, Location::External, &of(&mut in_external)),
                UserType::Internal => {
                    let (temp, main, srie) = (of(&mut in_temp), of(&mut in_main), of(&mut in_srie));
                    let (first, second) = (
                        against(one, Location::Temp, &temp),
                        against(one, Location::Main, &main),
                    );
                    let backed_up = || against(one, Location::Main, &srie) == Compared::Equal;
                    if first != Compared::Missing {
                        first
                    } else if second == Compared::Equal && !backed_up() {
                        Compared::Different
                    } else {
                        second
                    }
                }
            };
            compared.push(if erased { Compared::Erased } else { outcome });
        }
        Ok(compared)
    }
}

fn against(expected: &Composed, location: Location, found: &CurrentCopy) -> Compared {
    match found {
        CurrentCopy::Absent | CurrentCopy::Entering(_) => Compared::Missing,
        CurrentCopy::Erased(_) => Compared::Erased,
        CurrentCopy::Foreign(_) | CurrentCopy::Unclear(_) => Compared::Own,
        CurrentCopy::Live(stored) => match standing(stored, expected) {
            ImportedState::Own => Compared::Own,
            ImportedState::Changed => Compared::Changed,
            ImportedState::Older(_) => Compared::Different,
            ImportedState::Same(version) => {
                let should = stored_form(expected, location, version);
                if Digest::of(&should) == Digest::of(stored)
                    && document::version(stored) == Some(version)
                {
                    Compared::Equal
                } else {
                    Compared::Different
                }
            }
        },
    }
}
