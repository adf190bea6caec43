//! "Did you mean": owns the guess at what a misspelt name was meant to be.

use super::table::{Setting, settings};

/// The end of an error message: the closest of `candidates`, or nothing where none is close.
pub(super) fn among(name: &str, candidates: impl Iterator<Item = String>) -> String {
    let name = name.to_ascii_lowercase();
    let farthest = (name.len() / 4).clamp(1, 4);
    candidates
        .map(|candidate| (distance(&name, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("; did you mean {candidate:?}?"))
        .unwrap_or_default()
}

/// Every key of the settings file, short and long.
pub(super) fn keys() -> impl Iterator<Item = String> {
    settings().flat_map(|setting| {
        let file = setting
            .kind
            .has_file_variant()
            .then(|| format!("{}_file", setting.key()));
        [
            Some(setting.key()),
            Some(setting.name.to_ascii_lowercase()),
            file,
        ]
        .into_iter()
        .flatten()
    })
}

/// Every variable.
pub(super) fn variables() -> impl Iterator<Item = String> {
    settings().flat_map(|setting| {
        [
            Some(setting.name.to_owned()),
            Setting::file_variable(setting),
        ]
        .into_iter()
        .flatten()
    })
}

/// The number of characters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_suggested() {
        assert_eq!(
            among("TIERKEEP_RETENTOIN", variables()),
            "; did you mean \"TIERKEEP_RETENTION\"?"
        );
        assert_eq!(among("TIERKEEP_COLOUR", variables()), "");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
