//! A file of a few bytes for every legacy document, sorted by user, that goes with the process: the one place in
//! which memory would otherwise grow with the database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::DateTime;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tierkeep_core::bson;
use tierkeep_core::legacy::dates::Times;
use tierkeep_core::legacy::owner::{Account, Join};
use tierkeep_core::legacy::{Dated, Derived, Part};

/// The scratch file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the temporary file for sorting cannot be used ({0}); check the free space in the directory for temporary files"
)]
pub struct ScratchError(#[from] rusqlite::Error);

type Result<T, E = ScratchError> = std::result::Result<T, E>;

/// Where a legacy document is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The number of its collection.
    pub collection: u32,
    /// Its `_id`, as the value of the one field of a BSON document.
    pub id: Vec<u8>,
}

/// One legacy document of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filed {
    /// Where it is and when.
    pub dated: Dated<Place>,
    /// Its size in bytes of BSON.
    pub size: u64,
}

/// A document that is imported as nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Where it is.
    pub place: Place,
    /// Why.
    pub reason: String,
}

const TABLES: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -8192;
    CREATE TABLE documents (
        collection INTEGER NOT NULL, id BLOB NOT NULL, user TEXT, part INTEGER NOT NULL, scan TEXT,
        moment INTEGER NOT NULL, earliest INTEGER NOT NULL, latest INTEGER NOT NULL, size INTEGER NOT NULL,
        refusal TEXT, PRIMARY KEY (collection, id)
    ) WITHOUT ROWID;
    CREATE TABLE accounts (id TEXT PRIMARY KEY, login TEXT, email TEXT) WITHOUT ROWID;
    CREATE TABLE records (
        name TEXT NOT NULL, id TEXT NOT NULL, moment INTEGER NOT NULL, collection INTEGER NOT NULL,
        place BLOB NOT NULL, PRIMARY KEY (name, id)
    ) WITHOUT ROWID;
    CREATE INDEX by_login ON accounts (login);
    CREATE INDEX by_email ON accounts (email);
";

const NEXT_USERS: &str = "
    SELECT collection, id, part, scan, moment, earliest, latest, size, user FROM documents
    WHERE user > ?1 ORDER BY user, collection, id LIMIT ?2
";

/// The file.
#[derive(Debug)]
pub struct Scratch(Mutex<Connection>);

impl Scratch {
    /// An empty one.
    pub fn new() -> Result<Self> {
        // SQLite keeps a database without a name in a temporary file that is removed when it is closed.
        let connection = Connection::open("")?;
        // Otherwise every other value that is asked for has the statement prepared again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(TABLES)?;
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files accounts.
    pub fn accounts(&self, accounts: &[Account]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?1, ?2, ?3)")?;
            for account in accounts {
                insert.execute(params![account.id, account.login, account.email])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Whether exactly this account is filed.
    pub fn holds(&self, account: &Account) -> Result<bool> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT count(*) FROM accounts WHERE id = ?1 AND login IS ?2 AND email IS ?3",
        )?;
        let (id, login, email) = (&account.id, &account.login, &account.email);
        let count: i64 = select.query_row(params![id, login, email], |row| row.get(0))?;
        Ok(count > 0)
    }

    /// Whether an account of this id is filed.
    pub fn has_account(&self, id: &str) -> Result<bool> {
        let connection = self.connection();
        let mut select =
            connection.prepare_cached("SELECT count(*) FROM accounts WHERE id = ?1")?;
        let count: i64 = select.query_row([id], |row| row.get(0))?;
        Ok(count > 0)
    }

    /// The accounts that may be meant by `join`.
    pub fn matching(&self, join: &Join) -> Result<Vec<String>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT id FROM accounts WHERE login = ?1
             UNION SELECT id FROM accounts WHERE email = ?2
             UNION SELECT id FROM accounts WHERE id = ?3 ORDER BY 1",
        )?;
        let found = select.query_map(params![join.login, join.email, join.id], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Files documents: of a user, or refused.
    pub fn file(&self, documents: &[(Filed, Result<String, String>)]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for (filed, owner) in documents {
                let dated = &filed.dated;
                let times = [dated.times.moment, dated.times.earliest, dated.times.latest];
                let [moment, earliest, latest] = times.map(DateTime::timestamp_millis);
                insert.execute(params![
                    dated.place.collection,
                    dated.place.id,
                    owner.as_ref().ok(),
                    number_of(dated.part),
                    dated.scan,
                    moment,
                    earliest,
                    latest,
                    i64::try_from(filed.size).unwrap_or(i64::MAX),
                    owner.as_ref().err(),
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Files documents of HR records of the collections that are called `name`. Of several for one record, the newest
    /// counts; of equals, the one of the first source.
    pub fn records(&self, name: &str, documents: &[(String, DateTime, Place)]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name, id) DO UPDATE
                 SET moment = excluded.moment, collection = excluded.collection, place = excluded.place
                 WHERE excluded.moment > moment
                 OR (excluded.collection = collection AND excluded.place = place)
                 OR (excluded.moment = moment
                     AND (excluded.collection, excluded.place) < (collection, place))",
            )?;
            for (id, at, place) in documents {
                let at = at.timestamp_millis();
                insert.execute(params![name, id, at, place.collection, place.id])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Whether the document at `place` is the one that counts of this record.
    pub fn counts_as_record(&self, name: &str, id: &str, place: &Place) -> Result<bool> {
        let connection = self.connection();
        let found = connection
            .prepare_cached("SELECT collection, place FROM records WHERE name = ?1 AND id = ?2")?
            .query_row(params![name, id], |row| {
                Ok(Place {
                    collection: row.get(0)?,
                    id: row.get(1)?,
                })
            })
            .optional()?;
        Ok(found.as_ref() == Some(place))
    }

    /// Files documents that are refused after the first look.
    pub fn refuse(&self, refused: &[Refused]) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO documents VALUES (?1, ?2, NULL, 0, NULL, 0, 0, 0, 0, ?3)
                 ON CONFLICT (collection, id) DO UPDATE SET refusal = excluded.refusal",
            )?;
            for Refused { place, reason } in refused {
                insert.execute(params![place.collection, place.id, reason])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Takes a document out; answers whose it was.
    pub fn take_out(&self, place: &Place) -> Result<Option<String>> {
        let user = self.owner_of(place)?;
        self.connection()
            .prepare_cached("DELETE FROM documents WHERE collection = ?1 AND id = ?2")?
            .execute(params![place.collection, place.id])?;
        Ok(user)
    }

    /// Whose a document is.
    pub fn owner_of(&self, place: &Place) -> Result<Option<String>> {
        let connection = self.connection();
        let user = connection
            .prepare_cached("SELECT user FROM documents WHERE collection = ?1 AND id = ?2")?
            .query_row(params![place.collection, place.id], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(user)
    }

    /// Makes the index by which a user's documents are found. After most documents are filed: one by one they would
    /// come into it all over the place.
    pub fn order_by_user(&self) -> Result<()> {
        Ok(self
            .connection()
            .execute_batch("CREATE INDEX by_user ON documents (user, collection, id)")?)
    }

    /// How many documents have a user, and how many are refused.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let connection = self.connection();
        let (of_users, refused): (i64, i64) = connection.query_row(
            "SELECT count(user), count(refusal) FROM documents",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let number = |count| u64::try_from(count).unwrap_or_default();
        Ok((number(of_users), number(refused)))
    }

    /// The next users after `after` with every document of theirs, in order; those of about `limit` documents.
    pub fn users(&self, after: &str, limit: u32) -> Result<Vec<(String, Vec<Filed>)>> {
        let mut users: Vec<(String, Vec<Filed>)> = Vec::new();
        let mut rows = 0;
        {
            let connection = self.connection();
            let mut select = connection.prepare_cached(NEXT_USERS)?;
            let mut found = select.query(params![after, limit])?;
            while let Some(row) = found.next()? {
                rows += 1;
                let user: String = row.get(8)?;
                match users.last_mut() {
                    Some((last, documents)) if *last == user => documents.push(filed(row)?),
                    Some(_) | None => users.push((user, vec![filed(row)?])),
                }
            }
        }
        if rows == limit
            && let Some((user, documents)) = users.last_mut()
        {
            // There may be more of the last one.
            *documents = self.of_user(user)?;
        }
        Ok(users)
    }

    /// Every document of a user.
    pub fn of_user(&self, user: &str) -> Result<Vec<Filed>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT collection, id, part, scan, moment, earliest, latest, size FROM documents
             WHERE user = ?1 ORDER BY collection, id",
        )?;
        let found = select.query_map([user], filed)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The next refused documents after `after`, at most `limit`.
    pub fn refused(&self, after: Option<&Place>, limit: u32) -> Result<Vec<Refused>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT collection, id, refusal FROM documents
             WHERE refusal IS NOT NULL AND (collection, id) > (?1, ?2) ORDER BY collection, id LIMIT ?3",
        )?;
        let (collection, id) = match after {
            Some(place) => (i64::from(place.collection), place.id.as_slice()),
            None => (-1, [].as_slice()),
        };
        let found = select.query_map(params![collection, id, limit], |row| {
            Ok(Refused {
                place: Place {
                    collection: row.get(0)?,
                    id: row.get(1)?,
                },
                reason: row.get(2)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

fn filed(row: &Row<'_>) -> rusqlite::Result<Filed> {
    let date = |index| row.get(index).map(DateTime::from_millis);
    let size: i64 = row.get(7)?;
    Ok(Filed {
        dated: Dated {
            place: Place {
                collection: row.get(0)?,
                id: row.get(1)?,
            },
            part: part_of(row.get(2)?),
            scan: row.get(3)?,
            times: Times {
                moment: date(4)?,
                earliest: date(5)?,
                latest: date(6)?,
            },
        },
        size: u64::try_from(size).unwrap_or_default(),
    })
}

const PARTS: [Part; 6] = [
    Part::Scan { deep: false },
    Part::Scan { deep: true },
    Part::Progress,
    Part::Derived(Derived::Profile),
    Part::Derived(Derived::Rankings),
    Part::Derived(Derived::Scores),
];

fn number_of(part: Part) -> i64 {
    let place = PARTS.iter().position(|one| *one == part);
    place
        .and_then(|it| i64::try_from(it).ok())
        .unwrap_or_default()
}

fn part_of(number: i64) -> Part {
    let place = usize::try_from(number).unwrap_or_default();
    PARTS.get(place).copied().unwrap_or(Part::Progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: u8, part: Part, at: i64) -> Filed {
        let at = DateTime::from_millis(at);
        Filed {
            dated: Dated {
                place: Place {
                    collection: 1,
                    id: vec![id],
                },
                part,
                scan: Some("s".to_owned()),
                times: Times {
                    moment: at,
                    earliest: at,
                    latest: at,
                },
            },
            size: 7,
        }
    }

    #[test]
    fn what_is_filed_is_found_by_user_in_order() {
        let scratch = Scratch::new().unwrap();
        let filed: Vec<_> = PARTS
            .iter()
            .zip(0..)
            .map(|(part, n)| document(n, *part, 5))
            .collect();
        let of = |user: &str| Ok(user.to_owned());
        scratch
            .file(&[(filed[0].clone(), of("b")), (filed[1].clone(), of("a"))])
            .unwrap();
        scratch
            .file(&[
                (filed[2].clone(), of("b")),
                (filed[3].clone(), Err("why".to_owned())),
            ])
            .unwrap();
        let (a, b) = (
            vec![filed[1].clone()],
            vec![filed[0].clone(), filed[2].clone()],
        );
        let (a, b) = (("a".to_owned(), a), ("b".to_owned(), b));
        assert_eq!(scratch.users("", 9).unwrap(), [a.clone(), b.clone()]);
        assert_eq!(
            scratch.users("", 2).unwrap(),
            [a.clone(), b.clone()],
            "whole, or not at all"
        );
        assert_eq!(scratch.users("", 1).unwrap(), [a]);
        assert_eq!(scratch.users("a", 1).unwrap(), std::slice::from_ref(&b));
        assert!(scratch.users("b", 1).unwrap().is_empty());
        assert_eq!(scratch.of_user("b").unwrap(), b.1);
        let refused = scratch.refused(None, 9).unwrap();
        assert_eq!(refused[0].reason, "why");
        assert!(
            scratch
                .refused(Some(&refused[0].place), 9)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            scratch.take_out(&filed[0].dated.place).unwrap().as_deref(),
            Some("b")
        );
        assert_eq!(scratch.counts().unwrap(), (2, 1));
    }

    #[test]
    fn users_are_found_by_an_index_in_its_order() {
        let scratch = Scratch::new().unwrap();
        scratch.order_by_user().unwrap();
        let connection = scratch.connection();
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {NEXT_USERS}"))
            .unwrap();
        let steps = plan.query_map(params!["", 9], |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert_eq!(steps, ["SEARCH documents USING INDEX by_user (user>?)"]);
    }

    #[test]
    fn what_is_refused_late_is_told_beside_what_was_refused_at_once() {
        let scratch = Scratch::new().unwrap();
        let of_user = document(1, Part::Progress, 5);
        let at_once = document(2, Part::Progress, 5);
        scratch
            .file(&[
                (of_user.clone(), Ok("a".to_owned())),
                (at_once.clone(), Err("at once".to_owned())),
            ])
            .unwrap();
        let late = |filed: &Filed, reason: &str| Refused {
            place: filed.dated.place.clone(),
            reason: reason.to_owned(),
        };
        let record = document(3, Part::Progress, 5);
        let refused = [late(&of_user, "late"), late(&record, "a record")];
        scratch.refuse(&refused).unwrap();
        scratch.refuse(&[]).unwrap();
        let [one, other] = refused;
        let expected = [one, late(&at_once, "at once"), other];
        assert_eq!(scratch.refused(None, 9).unwrap(), expected);
        // The user's documents are still the user's.
        assert_eq!(scratch.of_user("a").unwrap(), [of_user]);
    }

    #[test]
    fn an_account_is_found_by_user_name_address_or_id_once() {
        let scratch = Scratch::new().unwrap();
        let account = |id: &str, login: &str, email: &str| Account {
            id: id.to_owned(),
            login: Some(login.to_owned()),
            email: Some(email.to_owned()),
        };
        scratch
            .accounts(&[
                account("1", "a", "a@x"),
                account("2", "b", "b@x"),
                account("3", "b", "c@x"),
            ])
            .unwrap();
        assert!(scratch.holds(&account("1", "a", "a@x")).unwrap());
        assert!(!scratch.holds(&account("1", "a", "b@x")).unwrap());
        assert!(scratch.has_account("1").unwrap() && !scratch.has_account("4").unwrap());
        let join = |login: &str, email: &str| Join {
            login: (!login.is_empty()).then(|| login.to_owned()),
            email: (!email.is_empty()).then(|| email.to_owned()),
            ..Join::default()
        };
        assert_eq!(scratch.matching(&join("a", "a@x")).unwrap(), ["1"]);
        assert_eq!(scratch.matching(&join("a", "b@x")).unwrap(), ["1", "2"]);
        assert_eq!(scratch.matching(&join("b", "")).unwrap(), ["2", "3"]);
        assert!(scratch.matching(&join("", "")).unwrap().is_empty());
    }
}
