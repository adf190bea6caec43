//! A strict reader of Prometheus's text format, as its page on exposition formats describes it: what it does not
//! understand fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// What a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Labels = BTreeMap<String, String>;

/// A scrape.
pub struct Exposition {
    text: String,
    families: BTreeMap<String, Kind>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Reads a scrape, and checks it.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line does not end");
        let mut families = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut samples = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if line.is_empty() {
                continue;
            }
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, said) = help.split_once(' ').expect(line);
                assert!(is_name(name) && !said.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "twice: {line}");
                continue;
            }
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').expect(line);
                let kind = match kind {
                    "counter" => Kind::Counter,
                    "gauge" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    other => panic!("{other:?} is no type: {line}"),
                };
                assert!(helped.contains(name), "no help: {line}");
                assert!(
                    families.insert(name.to_owned(), kind).is_none(),
                    "twice: {line}"
                );
                assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{line}");
                name.clone_into(&mut current);
                continue;
            }
            assert!(!line.starts_with('#'), "{line}");
            let (name, labels, value) = sample(line);
            let family = match families.get(&current) {
                Some(Kind::Histogram) => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix)),
                Some(Kind::Counter | Kind::Gauge) => Some(name.as_str()),
                None => None,
            };
            assert_eq!(family, Some(current.as_str()), "outside its family: {line}");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let before = samples.insert((name, labels), value);
            assert!(before.is_none(), "twice: {line}");
        }
        let read = Self {
            text: text.to_owned(),
            families,
            samples,
        };
        read.check_histograms();
        read
    }

    /// Each family with what it is.
    pub fn families(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.families
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The sample with exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        self.samples
            .get(&(name.to_owned(), labels.collect()))
            .copied()
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Buckets never shrink, and the last one holds everything.
    fn check_histograms(&self) {
        for (family, _) in self
            .families
            .iter()
            .filter(|(_, kind)| **kind == Kind::Histogram)
        {
            let bucket = format!("{family}_bucket");
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter(|((name, _), _)| *name == bucket)
                .map(|((_, labels), value)| {
                    let edge = labels["le"].replace("+Inf", "inf");
                    (edge.parse().unwrap(), *value)
                })
                .collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.len() > 5, "{family}");
            assert!(
                buckets.is_sorted_by(|one, other| one.1 <= other.1),
                "{buckets:?}"
            );
            let (last, all) = buckets[buckets.len() - 1];
            assert!(last.is_infinite());
            assert_eq!(self.value(&format!("{family}_count"), &[]), Some(all));
            assert!(self.value(&format!("{family}_sum"), &[]).is_some());
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    let first = letters
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().expect(line);
    let Some((name, rest)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return (series.to_owned(), Labels::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest.strip_suffix('}').expect(line);
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect(line);
        assert!(is_name(label), "{line}");
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect(line) {
                (at, '"') => break at,
                (_, '\\') => match letters.next().expect(line).1 {
                    'n' => text.push('\n'),
                    escaped @ ('\\' | '"') => text.push(escaped),
                    other => panic!("\\{other} escapes nothing: {line}"),
                },
                (_, letter) => text.push(letter),
            }
        };
        assert!(
            labels.insert(label.to_owned(), text).is_none(),
            "twice: {line}"
        );
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}
