//! Which of a user's legacy documents count: by parsed times, never by the order in which they are stored or
//! read. Equal times are distinguished by collection and `_id`, so that every run chooses the same.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bson::DateTime;

use super::dates::Times;
use super::entry::Part;
use super::kind::Derived;

/// One of a user's documents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dated<T> {
    /// Where it is; the last word between equals.
    pub place: T,
    /// What part it is.
    pub part: Part,
    /// Which scan it belongs to.
    pub scan: Option<String>,
    /// Its times.
    pub times: Times,
}

/// Those that count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen<T> {
    /// The place of what becomes `scan_cache`.
    pub scan: Option<T>,
    /// The place of what becomes `analysis_progress`.
    pub progress: Option<T>,
    /// The places of what goes into fields of `scan_cache`.
    pub derived: BTreeMap<Derived, T>,
    /// The first time of any document.
    pub created_at: DateTime,
    /// The last.
    pub last_accessed: DateTime,
}

/// Chooses among the documents of one user; `None` where there are none.
pub fn choose<T: Clone + Ord>(documents: &[&Dated<T>]) -> Option<Chosen<T>> {
    let newest = |wanted: &dyn Fn(&Dated<T>) -> bool| {
        documents
            .iter()
            .copied()
            .filter(|one| wanted(one))
            .max_by(|one, other| newer(one, other))
    };
    let scan = newest(&|one| matches!(one.part, Part::Scan { .. })).map(|newest_scan| {
        newest(&|one| one.part == Part::Scan { deep: true } && is_same_scan(one, newest_scan))
            .unwrap_or(newest_scan)
    });
    let progress = newest(&|one| one.part == Part::Progress);
    let derived = Derived::ALL.into_iter().filter_map(|derived| {
        let one = newest(&|one| one.part == Part::Derived(derived))?;
        Some((derived, one.place.clone()))
    });
    Some(Chosen {
        scan: scan.map(|one| one.place.clone()),
        progress: progress.map(|one| one.place.clone()),
        derived: derived.collect(),
        created_at: documents.iter().map(|one| one.times.earliest).min()?,
        last_accessed: documents.iter().map(|one| one.times.latest).max()?,
    })
}

fn newer<T: Ord>(one: &Dated<T>, other: &Dated<T>) -> Ordering {
    let key = |it: &Dated<T>| (it.times.moment, it.part);
    key(one)
        .cmp(&key(other))
        .then_with(|| one.place.cmp(&other.place))
}

/// Documents without a scan's id belong together where their times are equal.
fn is_same_scan<T>(one: &Dated<T>, other: &Dated<T>) -> bool {
    match (&one.scan, &other.scan) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.times.moment == other.times.moment,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(place: u32, part: Part, scan: &str, at: i64) -> Dated<u32> {
        let at = DateTime::from_millis(at);
        Dated {
            place,
            part,
            scan: (!scan.is_empty()).then(|| scan.to_owned()),
            times: Times {
                moment: at,
                earliest: at,
                latest: at,
            },
        }
    }

    fn choose(documents: &[Dated<u32>]) -> Option<Chosen<u32>> {
        super::choose(&documents.iter().collect::<Vec<_>>())
    }

    const PLAIN: Part = Part::Scan { deep: false };
    const DEEP: Part = Part::Scan { deep: true };

    #[test]
    fn the_newest_scan_counts_and_its_deep_analysis_before_it() {
        let documents = [
            one(1, PLAIN, "a", 10),
            one(2, DEEP, "a", 11),
            one(3, PLAIN, "b", 20),
            one(4, DEEP, "b", 19),
            one(5, Part::Progress, "", 7),
            one(6, Part::Progress, "", 8),
        ];
        let chosen = choose(&documents).unwrap();
        assert_eq!((chosen.scan, chosen.progress), (Some(4), Some(6)));
        assert_eq!(chosen.created_at, DateTime::from_millis(7));
        assert_eq!(chosen.last_accessed, DateTime::from_millis(20));
        assert_eq!(choose(&documents[..3]).unwrap().scan, Some(3));
    }

    #[test]
    fn the_order_in_which_documents_are_read_decides_nothing() {
        let mut documents = vec![
            one(1, PLAIN, "", 10),
            one(2, PLAIN, "", 10),
            one(3, DEEP, "", 10),
            one(4, Part::Derived(Derived::Profile), "", 5),
        ];
        let expected = choose(&documents);
        for _ in 0..documents.len() {
            documents.rotate_left(1);
            assert_eq!(choose(&documents), expected);
        }
        documents.reverse();
        assert_eq!(choose(&documents), expected);
        assert_eq!(expected.unwrap().scan, Some(3));
        assert_eq!(choose(&[]), None);
    }
}
