//! The next 24 hours as a picture: owns where its bars stand. The table beside it says the same.

use tierkeep_engine::Simulation;

use super::words::{bytes, many, number};

/// Room for the longest text of the scale, in the size that narrow pages have.
const LEFT: u64 = 70;
/// Room for half of a label beside the last bar.
const RIGHT: u64 = 24;
const BOTTOM: u64 = 150;
const TOP: u64 = 14;
const STEP: u64 = 26;
const WIDTH: u64 = 18;

/// A bar, in the units of the picture.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) height: u64,
    /// Due already.
    pub(super) due_now: bool,
    /// Under the bar; empty where it would crowd.
    pub(super) label: String,
    /// The label is left out where the picture is narrow.
    pub(super) minor: bool,
    /// In the middle of the bar.
    pub(super) middle: u64,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Hour {
    pub(super) when: String,
    pub(super) documents: String,
    pub(super) bytes: String,
    /// Nothing moves in it.
    pub(super) empty: bool,
}

/// What moves within the next 24 hours.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    /// (height, value), from the bottom up.
    pub(super) lines: Vec<(u64, String)>,
    pub(super) hours: Vec<Hour>,
    pub(super) total: String,
    pub(super) total_bytes: String,
    /// Where and when most moves.
    pub(super) busiest: Option<String>,
    pub(super) width: u64,
    pub(super) bottom: u64,
    pub(super) left: u64,
}

impl Chart {
    pub(super) fn of(simulation: &Simulation) -> Self {
        let clock = |rfc3339: &str| rfc3339.get(11..16).unwrap_or_default().to_owned();
        let now = ("now".to_owned(), "due now".to_owned(), simulation.due_now);
        let later = simulation.hours.iter().map(|hour| {
            let (from, to) = (clock(&hour.from), clock(&hour.to));
            (from.clone(), format!("{from} to {to}"), hour.amount)
        });
        let all: Vec<_> = std::iter::once(now).chain(later).collect();
        let most = all.iter().map(|(_, _, amount)| amount.documents).max();
        let scale = ceiling(most.unwrap_or_default());
        let mut bars = Vec::new();
        let mut hours = Vec::new();
        let mut x = LEFT + 6;
        for (place, (label, when, amount)) in all.iter().enumerate() {
            let height = height(amount.documents, scale);
            bars.push(Bar {
                x,
                y: BOTTOM - height,
                height,
                due_now: place == 0,
                label: if place % 3 == 0 {
                    label.clone()
                } else {
                    String::new()
                },
                minor: place % 6 == 3,
                middle: x + WIDTH / 2,
            });
            x += STEP;
            hours.push(Hour {
                when: when.clone(),
                documents: number(amount.documents),
                bytes: bytes(amount.bytes),
                empty: amount.documents == 0,
            });
        }
        let lines = [0, scale / 2, scale];
        let lines = lines.map(|value| (BOTTOM - height(value, scale), short(value)));
        let busiest = all.iter().max_by_key(|(_, _, amount)| amount.documents);
        let busiest = busiest.filter(|(_, _, amount)| amount.documents > 0);
        Self {
            bars,
            lines: lines.into(),
            hours,
            total: many(simulation.total.documents, "document", "documents"),
            total_bytes: bytes(simulation.total.bytes),
            busiest: busiest.map(|(_, when, amount)| {
                let documents = many(amount.documents, "document", "documents");
                format!("{when}, {documents}")
            }),
            width: x + RIGHT,
            bottom: BOTTOM,
            left: LEFT,
        }
    }
}

fn height(value: u64, scale: u64) -> u64 {
    let full = u128::from(BOTTOM - TOP);
    let height = u128::from(value) * full / u128::from(scale.max(1));
    // What is there at all can be seen.
    u64::try_from(height)
        .unwrap_or(BOTTOM - TOP)
        .max(u64::from(value > 0) * 2)
}

/// A round number, five characters long at most as long as people have that many documents.
fn short(value: u64) -> String {
    match value {
        0..10_000 => number(value),
        10_000..1_000_000 => format!("{}k", value / 1_000),
        _ => format!("{}M", value / 1_000_000),
    }
}

/// The next of 2, 4, 10, 20, 40, 100 and so on: half of it is a whole number too.
fn ceiling(most: u64) -> u64 {
    let mut decade: u64 = 1;
    loop {
        for leading in [2, 4, 10] {
            match decade.checked_mul(leading) {
                Some(scale) if scale >= most => return scale,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        decade = decade.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 2)]
    #[case(3, 4)]
    #[case(5, 10)]
    #[case(11, 20)]
    #[case(21, 40)]
    #[case(41, 100)]
    #[case(1_234, 2_000)]
    #[case(u64::MAX, u64::MAX)]
    fn the_scale_is_a_round_number(#[case] most: u64, #[case] scale: u64) {
        assert_eq!(ceiling(most), scale);
    }

    #[rstest]
    #[case(5_000, "5,000")]
    #[case(10_000, "10k")]
    #[case(200_000, "200k")]
    #[case(1_000_000, "1M")]
    #[case(500_000_000, "500M")]
    fn the_scale_has_short_texts(#[case] value: u64, #[case] expected: &str) {
        assert_eq!(short(value), expected);
    }

    #[test]
    fn a_bar_is_as_high_as_its_share_and_never_lost() {
        assert_eq!(height(10, 10), BOTTOM - TOP);
        assert_eq!(height(5, 10), (BOTTOM - TOP) / 2);
        assert_eq!(height(1, 1_000_000), 2);
        assert_eq!(height(0, 10), 0);
    }
}
