//! Repairing one document that differs. Every write is guarded by the version or by the whole document as it was
//! read, so that a repair beside writers, movers and other repairs never takes anything newer away.
//!
//! Decides nothing: what is right comes from [`Sight::remedy`].

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::{CopyKind, Held, Odd, Remedy, Side, Sight, Verdict, vouched_as};
use tierkeep_core::document;
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError, Written};
use tierkeep_core::user::UserId;

use crate::copies::adopt::{Adoption, adopt_copies};
use crate::copies::pair::Pair;
use crate::copies::put::{self, PutOutcome};
use crate::databases::retry::repeating;
use crate::erasure::tombstones;

/// How often a document is looked at while a concurrent writer changes it.
const ROUNDS: u32 = 8;

/// Repairs the document of this name; returns whether both sides agree now.
///
/// Idempotent. A crash leaves one side as it was, or as it should be.
pub(crate) async fn mend(
    pair: &Pair,
    name: &str,
    prefer: Option<Side>,
) -> Result<bool, StoreError> {
    let names = [name.to_owned()];
    for _ in 0..ROUNDS {
        let Some(sight) = pair.look(&names).await?.pop() else {
            return Ok(false);
        };
        match sight.verdict() {
            Verdict::Matched | Verdict::Nothing => return Ok(true),
            Verdict::InFlight => return Ok(false),
            Verdict::Differs(_) => {}
        }
        match adopt(pair, name, &sight).await? {
            Adopted::Nothing => {}
            Adopted::Something => continue,
            Adopted::Refused => return Ok(false),
        }
        let Some(remedy) = sight.remedy(prefer) else {
            return Ok(false);
        };
        if !apply(pair, name, &sight, remedy).await? {
            return Ok(false);
        }
    }
    Ok(false)
}

enum Adopted {
    Nothing,
    Something,
    Refused,
}

/// Copies of other programs are given their form before anything is written over them.
async fn adopt(pair: &Pair, name: &str, sight: &Sight) -> Result<Adopted, StoreError> {
    let foreign = |side| sight.held(side).is_some_and(|held| held.foreign);
    // An adoption that was cut off leaves the document that it began with beside what became of it.
    let several = sight.odd() == Some(&Odd::SeveralClaims);
    let user = UserId::parse(name).ok();
    let (true, Some(user), CopyKind::Users) = (
        foreign(Side::Main) || foreign(Side::Srie) || several,
        user.filter(|user| user.as_str() == name),
        pair.kind,
    ) else {
        return Ok(Adopted::Nothing);
    };
    let engine = pair.engine();
    let ledger = engine.ledger();
    let main = adopt_copies(ledger, engine.databases.raseen_main_db(), &user).await?;
    let srie = adopt_copies(ledger, engine.databases.srie_main_db(), &user).await?;
    for outcome in [main, srie] {
        match outcome {
            Adoption::Done | Adoption::Again => {}
            Adoption::Quarantined(_) => return Ok(Adopted::Refused),
        }
    }
    Ok(Adopted::Something)
}

/// Answers whether it is worth looking again.
async fn apply(pair: &Pair, name: &str, sight: &Sight, remedy: Remedy) -> Result<bool, StoreError> {
    let from = match remedy {
        Remedy::Bury => {
            let erased = UserId::parse(name).ok().zip(sight.fence);
            tombstones::rewrite(pair.engine(), erased.as_slice()).await?;
            return Ok(true);
        }
        Remedy::Copy { from } | Remedy::Replace { from } => from,
    };
    let Some(source) = as_seen(pair, name, sight, from).await? else {
        return Ok(true);
    };
    let right = vouched_as(&source, pair.kind);
    if right.as_bytes() != source.as_bytes() && !replace(pair, from, &source, &right).await? {
        return Ok(false);
    }
    match remedy {
        Remedy::Copy { .. } => {
            let placed = put::put(pair, from.other(), std::slice::from_ref(&right)).await?;
            Ok(!matches!(placed.first(), Some(PutOutcome::Refused(_))))
        }
        Remedy::Replace { .. } => {
            let Some(wrong) = as_seen(pair, name, sight, from.other()).await? else {
                return Ok(true);
            };
            replace(pair, from.other(), &wrong, &right).await
        }
        Remedy::Bury => Ok(true),
    }
}

/// The document, where it is still the one that was judged.
async fn as_seen(
    pair: &Pair,
    name: &str,
    sight: &Sight,
    side: Side,
) -> Result<Option<RawDocumentBuf>, StoreError> {
    let names = [name.to_owned()];
    let whole = Find::new(Query::All);
    let mut found = pair
        .by_names(side, &names, whole)
        .next()
        .await?
        .unwrap_or_default();
    let (Some(one), true) = (found.pop(), found.is_empty()) else {
        return Ok(None);
    };
    let held = Held::of(&one, pair.kind).ok();
    Ok((held.as_ref() == sight.held(side)).then_some(one))
}

/// Puts `by` in the place of exactly `document`; answers whether the database takes it.
async fn replace(
    pair: &Pair,
    side: Side,
    document: &RawDocumentBuf,
    by: &RawDocumentBuf,
) -> Result<bool, StoreError> {
    let id = document::id(document);
    let guard = Guard::Whole(document.clone());
    let change = Change::Replace(by.clone());
    let store = pair.store(side);
    match repeating(|| store.write(&pair.collection, &id, &guard, &change)).await? {
        Written::Applied(_) => {
            put::check_erasures(pair, std::slice::from_ref(by)).await?;
            Ok(true)
        }
        // A concurrent writer was faster, or an answer was lost: the next look shows which.
        Written::Unmatched => Ok(true),
        Written::TooLarge | Written::Rejected(_) => Ok(false),
    }
}
