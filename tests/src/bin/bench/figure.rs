//! What repeated measuring comes to: median, minimum and maximum.

use serde::Serialize;

/// A figure measured several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// In the order of the rounds.
    pub(crate) samples: Vec<f64>,
}

impl Figure {
    /// None of no samples.
    pub(crate) fn of(samples: Vec<f64>) -> Option<Self> {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Some(Self {
            median,
            min,
            max,
            samples,
        })
    }

    /// `1,234 (1,200–1,300)`, or the one number where all samples look alike.
    pub(crate) fn words(&self, decimals: usize) -> String {
        let [median, min, max] =
            [self.median, self.min, self.max].map(|value| grouped(value, decimals));
        if min == max {
            median
        } else {
            format!("{median} ({min}–{max})")
        }
    }
}

/// With a comma between thousands.
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = plain
        .find('.')
        .map_or((&*plain, ""), |point| plain.split_at(point));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let nothing = plain.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if value < 0.0 && !nothing { "-" } else { "" };
    format!("{sign}{text}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        let odd = Figure::of(vec![3.0, 1.0, 9.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 9.0));
        assert_eq!(Figure::of(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Figure::of(Vec::new()), None);
    }

    #[test]
    fn numbers_have_commas_and_no_sign_of_nothing() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.0, 0), "999");
        assert_eq!(grouped(-1_000.25, 2), "-1,000.25");
        assert_eq!(grouped(-0.001, 1), "0.0");
    }

    #[test]
    fn samples_that_look_alike_are_one_number() {
        let figure = Figure::of(vec![1.01, 1.03]).unwrap();
        assert_eq!(figure.words(1), "1.0");
        assert_eq!(figure.words(2), "1.02 (1.01–1.03)");
    }
}
