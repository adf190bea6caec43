//! A few documents in place of all, from everywhere between the first id and the last, without going through all
//! of them.
//!
//! Ids are drawn as texts between the two, of the symbols that ids here have, and the document after each is taken:
//! about even where ids are, and good enough to notice damage that is not rare. Chance is a parameter.

use std::collections::BTreeSet;

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::Side;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};

use crate::copies::pair::Pair;
use crate::databases::random::Randomness;
use crate::databases::retry::repeating;

/// How many ids are looked at to learn what ids look like; a collection that has fewer is drawn from directly.
const FIRST: usize = 1_000;
/// How many symbols of an id tell it from others.
const SYMBOLS: usize = 16;
/// Of how many symbols the greatest id is looked for.
const DIGITS: usize = 40;

/// The names of about `count` documents of both sides.
pub(crate) async fn names(
    pair: &Pair,
    count: u64,
    randomness: &dyn Randomness,
) -> Result<BTreeSet<String>, StoreError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut names = BTreeSet::new();
    for (side, share) in [(Side::Main, count), (Side::Srie, count / 2 + 1)] {
        let mut page = keys(pair, side, None, FIRST).await?;
        if page.len() < FIRST {
            shuffle(&mut page, randomness);
            let drawn = page.iter().filter_map(|key| pair.kind.key(key));
            names.extend(drawn.take(share).map(str::to_owned));
            continue;
        }
        let Some(ids) = Ids::of(pair, side, &page).await? else {
            continue;
        };
        let mut drawn = BTreeSet::new();
        // Two draws may lead to one document.
        for _ in 0..share.saturating_mul(4) {
            if drawn.len() >= share {
                break;
            }
            let after = Some(at(&ids.draw(randomness)));
            let found = keys(pair, side, after, 1).await?;
            let name = found.first().and_then(|key| pair.kind.key(key));
            drawn.extend(name.map(str::to_owned));
        }
        names.extend(drawn);
    }
    let mut names: Vec<String> = names.into_iter().collect();
    shuffle(&mut names, randomness);
    names.truncate(count);
    Ok(names.into_iter().collect())
}

fn at(text: &str) -> Cursor {
    Cursor {
        staged_at: Bson::Null,
        id: Bson::String(text.to_owned()),
    }
}

async fn keys(
    pair: &Pair,
    side: Side,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let find = Find::new(Query::All).after(after).limit(limit).keys();
    let store = pair.store(side);
    repeating(|| store.find(&pair.collection, &find)).await
}

fn shuffle<T>(all: &mut [T], randomness: &dyn Randomness) {
    for last in (1..all.len()).rev() {
        all.swap(last, randomness.below(last + 1));
    }
}

/// What the ids of a collection look like that are texts.
struct Ids {
    least: String,
    greatest: String,
    /// What all between the two begin with.
    prefix: String,
    symbols: Vec<char>,
}

impl Ids {
    /// As far as `page`, the first of them, and the greatest tell; `None` where none is a text.
    async fn of(
        pair: &Pair,
        side: Side,
        page: &[RawDocumentBuf],
    ) -> Result<Option<Self>, StoreError> {
        let texts: Vec<String> = page.iter().filter_map(text).collect();
        let Some(least) = texts.first().cloned() else {
            return Ok(None);
        };
        let greatest = greatest(pair, side, &least).await?;
        let same = least.chars().zip(greatest.chars());
        let prefix: String = same.take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let symbols: BTreeSet<char> = texts
            .iter()
            .chain([&greatest])
            .flat_map(|text| text.chars().skip(prefix.chars().count()))
            .collect();
        Ok(Some(Self {
            least,
            greatest,
            prefix,
            symbols: symbols.into_iter().collect(),
        }))
    }

    /// A text between the least and the greatest.
    fn draw(&self, randomness: &dyn Randomness) -> String {
        for _ in 0..64 {
            let mut drawn = self.prefix.clone();
            for _ in 0..SYMBOLS {
                let symbol = self.symbols.get(randomness.below(self.symbols.len()));
                drawn.extend(symbol);
            }
            if drawn >= self.least && drawn < self.greatest {
                return drawn;
            }
        }
        self.prefix.clone()
    }
}

fn text(key: &RawDocumentBuf) -> Option<String> {
    document::id(key).as_str().map(str::to_owned)
}

/// The greatest id that is a text, by halving what it may be.
async fn greatest(pair: &Pair, side: Side, least: &str) -> Result<String, StoreError> {
    let mut greatest = least.to_owned();
    let mut low = digits(least);
    let mut high = [0x7f; DIGITS];
    for _ in 0..DIGITS * 7 {
        let middle = middle(&low, &high);
        if middle == low {
            break;
        }
        let page = keys(pair, side, Some(at(&as_text(&middle))), 2).await?;
        let texts: Vec<String> = page.iter().filter_map(text).collect();
        match texts.as_slice() {
            [] => high = middle,
            [only] => return Ok(only.clone()),
            [_, second, ..] => {
                greatest.clone_from(second);
                low = middle;
            }
        }
    }
    Ok(greatest)
}

/// A text as a number of [`DIGITS`] digits to the base 128.
fn digits(text: &str) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    for (digit, byte) in digits.iter_mut().zip(text.bytes()) {
        *digit = byte.min(0x7f);
    }
    digits
}

fn as_text(digits: &[u8; DIGITS]) -> String {
    let text: String = digits.iter().map(|digit| char::from(*digit)).collect();
    text.trim_end_matches('\0').to_owned()
}

fn middle(low: &[u8; DIGITS], high: &[u8; DIGITS]) -> [u8; DIGITS] {
    let mut sums = [0_u16; DIGITS];
    let mut carry = 0;
    for ((sum, low), high) in sums.iter_mut().zip(low).zip(high).rev() {
        let whole = u16::from(*low) + u16::from(*high) + carry;
        *sum = whole % 128;
        carry = whole / 128;
    }
    let mut halves = [0; DIGITS];
    for (half, sum) in halves.iter_mut().zip(sums) {
        let whole = carry * 128 + sum;
        *half = u8::try_from(whole / 2).unwrap_or(0x7f);
        carry = whole % 2;
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_two_texts_lies_between_them() {
        for (low, high) in [
            ("a", "c"),
            ("internal_5", "internal_6"),
            ("", "z"),
            ("az", "b"),
        ] {
            let middle = as_text(&middle(&digits(low), &digits(high)));
            assert!(
                low < middle.as_str() && middle.as_str() < high,
                "{low} {middle:?} {high}"
            );
        }
        let same = digits("same");
        assert_eq!(middle(&same, &same), same);
    }
}
