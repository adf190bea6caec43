//! Planning the moves of documents that other programs wrote, without adopting them first.
//!
//! The final form of such a document is a function of the document, so main and srie can get it without temp ever holding it. Its
//! version lies above everything that is known of its user, and temp then lets go of exactly the document that was copied.
//! What is not this simple (a version without a date, several documents of the user, legacy copies, copies that went on from this
//! document) is adopted.
//! Only reads.
//!
//! **Architecture invariant:** main and srie are read here; then the batch writes the record, and after that looks whether temp
//! still holds this document and no other of the user. So whatever another mover copies of a later state of the document has a
//! version as high at least, and the record tells which of the two a version belongs to; and a writer that adopts the document
//! sees the record, or the batch its entry.

use std::collections::HashMap;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::{Foreign, NextVersion, is_copy_of, next_version};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::erasure::Erasure;
use tierkeep_core::mover::Planned;
use tierkeep_core::store::{Find, Handle, Query, StoreError};

use crate::claims::by_user;
use crate::context::Engine;
use crate::mover::executor::records_of;

/// The most bytes that are read at once.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A document of another program, and what it says.
pub(crate) type Unadopted = (RawDocumentBuf, Foreign);

/// What is to be done with documents of other programs.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    /// These move as they are.
    pub(crate) moves: Vec<Planned>,
    /// These are adopted first.
    pub(crate) adopts: Vec<RawDocumentBuf>,
    /// How many are gone, or wait for an erasure that is still clearing temp.
    pub(crate) left: u64,
}

/// Says what is to be done with each of these documents of temp. `moves_are_open`: some record says that a move was begun and is
/// not complete.
pub(crate) async fn plan(
    engine: &Engine,
    documents: Vec<Unadopted>,
    moves_are_open: bool,
) -> Result<Plans, StoreError> {
    let mut plans = Plans::default();
    if documents.is_empty() {
        return Ok(plans);
    }
    let users: Vec<String> = documents
        .iter()
        .map(|(_, it)| it.user.to_string())
        .collect();
    let databases = &engine.databases;
    let (main, srie, erasures) = tokio::try_join!(
        heads(databases.raseen_main_db(), &users),
        heads(databases.srie_main_db(), &users),
        erasures(engine, &users),
    )?;
    let keys = Find::new(Query::All).max_bytes(MOST_BYTES).keys();
    let claims = by_user(databases.raseen_temp_db(), &users, keys).await?;
    let mut some_were_copied = false;
    for ((document, foreign), erasure) in documents.into_iter().zip(erasures) {
        let user = foreign.user.as_str();
        let is_clearing = |it: &Erasure| it.pending.contains(&Role::RaseenTempUser);
        let of = |copies: &'_ Claims| copies.get(user).map_or(0, Vec::len);
        let is_there = claims.get(user).is_some_and(|claims| {
            let id = document::id(&document);
            claims.iter().any(|claim| document::id(claim) == id)
        });
        if !is_there || erasure.as_ref().is_some_and(is_clearing) {
            // A document that is there after an erasure was created after it.
            plans.left += 1;
            continue;
        }
        let copies: Vec<&RawDocument> = [&main, &srie]
            .into_iter()
            .flat_map(|copies| copies.get(user).into_iter().flatten())
            .map(AsRef::as_ref)
            .collect();
        // One with a version of its own would stand in temp below its copies for a while.
        let is_simple = !document::has_version(&document)
            && of(&claims) == 1
            && of(&main).max(of(&srie)) < 2
            && copies.iter().all(|copy| document::is_native(copy));
        let fence = erasure.and_then(|erasure| erasure.fence());
        let next = next_version(&document, &foreign, &copies, &[fence]).filter(|next| match next {
            NextVersion::OfCopies(_) => true,
            // A copy that began as this document and is another by now: whether that one counts, adopting finds out.
            NextVersion::Above(_) => !copies.iter().any(|copy| is_copy_of(copy, &foreign)),
        });
        match next.filter(|_| is_simple) {
            Some(next) => {
                some_were_copied |= matches!(next, NextVersion::OfCopies(_));
                let planned = Planned::of_foreign(document, &foreign, next.get());
                plans.moves.push(planned);
            }
            None => plans.adopts.push(document),
        }
    }
    if moves_are_open || some_were_copied {
        without_taken_versions(engine, &mut plans).await?;
    }
    Ok(plans)
}

/// Under a version whose record is that of another document, or of this one in its final form, none moves: adopting finds a version
/// that is free, or that this one has moved already.
async fn without_taken_versions(engine: &Engine, plans: &mut Plans) -> Result<(), StoreError> {
    let audit = engine.databases.audit_db();
    let records = records_of(audit, plans.moves.iter().map(|it| it.item.record)).await?;
    let is_free = |it: &Planned| {
        let record = records.get(&it.item.record);
        record.is_none_or(|record| record.is_of(&it.item))
    };
    let moves = std::mem::take(&mut plans.moves);
    let (free, taken): (Vec<Planned>, Vec<Planned>) = moves.into_iter().partition(is_free);
    plans.moves = free;
    let originals = taken.into_iter().filter_map(|it| it.item.original);
    plans.adopts.extend(originals.map(|it| it.document));
    Ok(())
}

type Claims = HashMap<String, Vec<RawDocumentBuf>>;

async fn heads<D: UserDatabase>(
    database: &Handle<D>,
    users: &[String],
) -> Result<Claims, StoreError> {
    let heads = Find::new(Query::All).max_bytes(MOST_BYTES).head();
    by_user(database, users, heads).await
}

async fn erasures(engine: &Engine, users: &[String]) -> Result<Vec<Option<Erasure>>, StoreError> {
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    engine.ledger().entries(&users).await
}
