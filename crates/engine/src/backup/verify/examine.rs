//! Judging what the two sides hold: what is equal at first sight counts, what is not is looked at again, with
//! temp and the ledger, until two looks in a row see the same.

use std::collections::HashMap;

use bson::Bson;
use tierkeep_core::bson;
use tierkeep_core::compare::{Class, CopyKind, Side, Sight, Verdict, equals_sound};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::version::Version;

use crate::backup::verify::merge::Both;
use crate::backup::verify::repair::mend;
use crate::backup::verify::{Difference, Verified, VerifyOptions};
use crate::copies::pair::{LOOK_DOCUMENTS, Pair};
use crate::databases::retry::repeating;
use crate::ledger::Fences;

/// How often something that changes between looks is looked at before it counts as in flight.
const LOOKS: u32 = 6;
/// How many equal documents are looked up in the ledger at once.
const LEDGER_DOCUMENTS: usize = 10_000;

/// One document that is not equal at first sight.
struct Doubt {
    name: String,
    /// Where it was met. Of several documents with its name, one counts; without a place it counts wherever it is.
    place: Option<Vec<u8>>,
}

/// Judges the documents of one collection.
pub(crate) struct Examination<'a> {
    pair: &'a Pair,
    options: &'a VerifyOptions,
    verified: &'a mut Verified,
    doubts: Vec<Doubt>,
    /// Equal on both sides; whether their user was erased is not known yet.
    equal: Vec<(String, Version, Vec<u8>)>,
    fences: Fences,
}

impl<'a> Examination<'a> {
    pub(crate) fn of(
        pair: &'a Pair,
        options: &'a VerifyOptions,
        verified: &'a mut Verified,
    ) -> Self {
        Self {
            pair,
            options,
            verified,
            doubts: Vec::new(),
            equal: Vec::new(),
            fences: Fences::default(),
        }
    }

    /// What was found so far.
    pub(crate) fn verified(&self) -> &Verified {
        self.verified
    }

    /// Adds the documents under one `_id`; returns whether it is a good moment to stop.
    pub(crate) async fn take(&mut self, both: Both) -> Result<bool, StoreError> {
        let kind = self.pair.kind;
        let Some(one) = both.either() else {
            return Ok(false);
        };
        let name = kind.key(one).map(str::to_owned);
        if let (Some(main), Some(srie)) = (&both.main, &both.srie) {
            if let (Some(name), Some(version)) = (&name, both.sound)
                && equals_sound(main, srie, kind)
            {
                let name = name.clone();
                return self.equal(name, version, both.place).await;
            }
            // A document that cannot be adopted is backed up nevertheless.
            let unread = kind == CopyKind::Hr || !document::is_native(main);
            if unread && document::version(main).is_none() && main.as_bytes() == srie.as_bytes() {
                self.verified.matched();
                return Ok(false);
            }
        }
        let hold_content = [&both.main, &both.srie]
            .into_iter()
            .flatten()
            .any(|document| document::state(document) != Some(State::Erased));
        if !hold_content {
            return Ok(false);
        }
        match name {
            Some(name) => self.doubts.push(Doubt {
                name,
                place: Some(both.place),
            }),
            None => self.unnamed(&document::id(one)).await?,
        }
        if self.doubts.len() >= LOOK_DOCUMENTS {
            self.settle().await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes in a document that is equal on both sides; answers as [`Examination::take`].
    pub(crate) async fn equal(
        &mut self,
        name: String,
        version: Version,
        place: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.equal.push((name, version, place));
        if self.equal.len() < LEDGER_DOCUMENTS {
            return Ok(false);
        }
        self.look_up_equal().await?;
        Ok(true)
    }

    /// Takes in a document by its name alone.
    pub(crate) async fn name(&mut self, name: String) -> Result<(), StoreError> {
        self.doubts.push(Doubt { name, place: None });
        if self.doubts.len() >= LOOK_DOCUMENTS {
            self.settle().await?;
        }
        Ok(())
    }

    /// Judges what was taken in and not judged yet.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        self.look_up_equal().await?;
        self.settle().await
    }

    /// Looks up the equal documents in the ledger, after they were read: those of an erased user are not a match.
    async fn look_up_equal(&mut self) -> Result<(), StoreError> {
        let equal = std::mem::take(&mut self.equal);
        let mut fences = vec![None; equal.len()];
        if self.pair.kind == CopyKind::Users && !equal.is_empty() {
            let users: Vec<&str> = equal.iter().map(|(name, _, _)| name.as_str()).collect();
            let ledger = self.pair.engine().ledger();
            fences = self.fences.of(ledger, &users).await?;
        }
        for ((name, version, place), fence) in equal.into_iter().zip(fences) {
            if fence.is_some_and(|fence| version <= fence) {
                self.doubts.push(Doubt {
                    name,
                    place: Some(place),
                });
                if self.doubts.len() >= LOOK_DOCUMENTS {
                    self.settle().await?;
                }
            } else {
                self.verified.matched();
            }
        }
        Ok(())
    }

    /// Looks at the doubtful until it is certain what they are.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let doubts = std::mem::take(&mut self.doubts);
        let mut names: Vec<String> = doubts.iter().map(|doubt| doubt.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let mut settled: HashMap<String, (Sight, Verdict)> = HashMap::new();
        let mut before: HashMap<String, Sight> = HashMap::new();
        for look in 1..=LOOKS {
            if names.is_empty() {
                break;
            }
            let sights = self.pair.look(&names).await?;
            for (name, sight) in std::mem::take(&mut names).into_iter().zip(sights) {
                let verdict = sight.verdict();
                let certain = match verdict {
                    Verdict::Nothing | Verdict::Matched | Verdict::InFlight => true,
                    Verdict::Differs(_) => before
                        .get(&name)
                        .is_some_and(|before| before.has_copies_of(&sight)),
                };
                if certain {
                    settled.insert(name, (sight, verdict));
                } else if look == LOOKS {
                    // It changes between any two looks, so another writer is at work on it.
                    settled.insert(name, (sight, Verdict::InFlight));
                } else {
                    before.insert(name.clone(), sight);
                    names.push(name);
                }
            }
        }
        for doubt in doubts {
            let Some((sight, verdict)) = settled.get(&doubt.name) else {
                continue;
            };
            self.count(&doubt, sight, *verdict).await?;
        }
        Ok(())
    }

    async fn count(
        &mut self,
        doubt: &Doubt,
        sight: &Sight,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let met = doubt.place.as_deref();
        let counts = met.is_none() || sight.place() == met;
        match verdict {
            Verdict::Matched if counts => self.verified.matched(),
            Verdict::InFlight if counts => self.verified.in_flight(),
            Verdict::Nothing | Verdict::Matched | Verdict::InFlight => {}
            Verdict::Differs(class) => {
                let listed = |finding: &Difference| {
                    finding.id == doubt.name && finding.collection == self.pair.collection
                };
                // The one that counts may have been given another `_id` behind the scan.
                if counts || !self.verified.findings.iter().any(listed) {
                    let mut finding = self.finding(&doubt.name, sight, class);
                    if self.options.repair {
                        let prefer = self.options.prefer;
                        finding.repaired = mend(self.pair, &doubt.name, prefer).await?;
                    }
                    self.verified.found(finding);
                }
            }
        }
        Ok(())
    }

    fn finding(&self, name: &str, sight: &Sight, class: Class) -> Difference {
        let version = |side| sight.held(side).map(|held| held.version.get());
        Difference {
            collection: self.pair.collection.clone(),
            id: name.to_owned(),
            class,
            main: version(Side::Main),
            srie: version(Side::Srie),
            reason: sight.odd().map(ToString::to_string),
            repaired: false,
        }
    }

    /// A document that nothing names is compared with what has its `_id` on the other side, byte for byte.
    async fn unnamed(&mut self, id: &Bson) -> Result<(), StoreError> {
        let mut copies = Vec::new();
        for side in [Side::Main, Side::Srie] {
            let find = Find::new(Query::Ids(vec![id.clone()])).limit(1);
            let store = self.pair.store(side);
            let mut found = repeating(|| store.find(&self.pair.collection, &find)).await?;
            copies.push(found.pop());
        }
        if copies.iter().all(Option::is_none) && *id != Bson::Null {
            return Ok(());
        }
        if let [Some(main), Some(srie)] = copies.as_slice()
            && main.as_bytes() == srie.as_bytes()
        {
            self.verified.matched();
            return Ok(());
        }
        let shown: String = id.to_string().chars().take(64).collect();
        self.verified.found(Difference {
            collection: self.pair.collection.clone(),
            id: shown,
            class: Class::Unreadable,
            main: None,
            srie: None,
            reason: Some("it has no usable user id".to_owned()),
            repaired: false,
        });
        Ok(())
    }
}
