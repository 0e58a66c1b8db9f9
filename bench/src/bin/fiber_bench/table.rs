//! Rows of results: medians and spread per contestant, ratios, targets, and how they are printed.

use std::fmt;

use serde::Serialize;

use crate::programs::Contestant;

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// Times, bytes, counts.
    Lower,
    /// Rates.
    Higher,
}

/// What `TARGETS.md` asks of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// At most this much.
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
    /// Better than all rivals.
    Ahead,
    /// At least this part of that contestant's value, and better than all others but it.
    Share(Contestant, f64),
    /// At least this part of our own value with the native API: the row is that of another.
    OfNative(f64),
}

/// The results of one contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) contestant: Contestant,
    /// One per round.
    pub(crate) runs: Vec<f64>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Cell {
    /// The value in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            even if even % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
            _ => Some(sorted[middle]),
        }
    }

    fn spread(&self) -> (f64, f64) {
        self.runs.iter().fold((f64::MAX, f64::MIN), |(low, high), run| (low.min(*run), high.max(*run)))
    }
}

/// One question's figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// A row without results.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        better: Better,
        target: Option<Target>,
    ) -> Self {
        Row { what: what.into(), unit, better, target, cells: Vec::new() }
    }

    /// Adds the result of a round, or why there is none.
    pub(crate) fn add(&mut self, contestant: Contestant, result: Result<f64, String>) {
        let at = match self.cells.iter().position(|cell| cell.contestant == contestant) {
            Some(at) => at,
            None => {
                self.cells.push(Cell { contestant, runs: Vec::new(), note: None });
                self.cells.len() - 1
            }
        };
        match result {
            Ok(value) => self.cells[at].runs.push(value),
            Err(note) => self.cells[at].note = Some(note),
        }
    }

    /// A contestant's results.
    pub(crate) fn cell(&self, contestant: Contestant) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.contestant == contestant)
    }

    /// Whether we were asked and did not answer.
    pub(crate) fn lacks_ours(&self) -> bool {
        self.cell(Contestant::Moon).is_some_and(|cell| cell.note.is_some())
    }

    fn median(&self, contestant: Contestant) -> Option<f64> {
        self.cell(contestant)?.median()
    }

    /// How many times as good ours is as this value; nothing where one of them is next to nothing.
    fn advantage(&self, over: f64) -> Option<f64> {
        const NOTHING: f64 = 0.01;
        let ours = self.median(Contestant::Moon)?;
        let (good, bad) = match self.better {
            Better::Lower => (over, ours),
            Better::Higher => (ours, over),
        };
        (good.min(bad) > NOTHING).then(|| good / bad)
    }

    /// Whether the target is met; `None` without target or without our own value.
    pub(crate) fn met(&self) -> Option<bool> {
        let ours = self.median(Contestant::Moon)?;
        let beats_all_but = |except: Option<Contestant>| {
            let rivals = self.cells.iter().filter(|cell| {
                !matches!(cell.contestant, Contestant::Moon | Contestant::MoonStd)
                    && Some(cell.contestant) != except
            });
            rivals.filter_map(Cell::median).all(|rival| match self.better {
                Better::Lower => ours <= rival,
                Better::Higher => ours >= rival,
            })
        };
        Some(match self.target? {
            Target::AtMost(limit) => ours <= limit,
            Target::AtLeast(limit) => ours >= limit,
            Target::Ahead => beats_all_but(None),
            Target::Share(rival, share) => ours >= share * self.median(rival)? && beats_all_but(Some(rival)),
            Target::OfNative(share) => self.median(Contestant::MoonStd)? >= share * ours,
        })
    }

    fn target_text(&self) -> String {
        let Some(target) = self.target else { return String::new() };
        let ratio = match target {
            Target::AtMost(limit) | Target::AtLeast(limit) => {
                format!("{} {}", if matches!(target, Target::AtMost(_)) { "<=" } else { ">=" }, Figure(limit))
            }
            Target::Ahead => "ahead of all".to_owned(),
            Target::Share(rival, share) => match (self.median(Contestant::Moon), self.median(rival)) {
                (Some(ours), Some(theirs)) => {
                    format!(">= {share} x {rival} (is {:.2}), ahead of the others", ours / theirs)
                }
                _ => format!(">= {share} x {rival}, ahead of the others"),
            },
            Target::OfNative(share) => {
                match (self.median(Contestant::Moon), self.median(Contestant::MoonStd)) {
                    (Some(native), Some(hooks)) => {
                        format!("hooks >= {share} x native (is {:.2})", hooks / native)
                    }
                    _ => format!("hooks >= {share} x native"),
                }
            }
        };
        match self.met() {
            Some(true) => format!("{ratio}: met"),
            Some(false) => format!("{ratio}: MISSED"),
            None => ratio,
        }
    }
}

/// A number with three significant digits, at least its whole part, in thousands.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        let text = match size {
            _ if size >= 100.0 || size == size.trunc() => format!("{:.0}", self.0),
            _ if size >= 10.0 => format!("{:.1}", self.0),
            _ if size >= 0.1 => format!("{:.2}", self.0),
            _ => format!("{:.5}", self.0),
        };
        let whole = text.find('.').unwrap_or(text.len());
        let mut grouped = String::new();
        for (at, digit) in text.char_indices() {
            if at > 0 && at < whole && (whole - at) % 3 == 0 && !grouped.ends_with('-') {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

/// A title and its rows, printed as one table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// Conditions of these rows, and what must be known to read them.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(title: &str) -> Self {
        Table { title: title.to_owned(), notes: Vec::new(), rows: Vec::new() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns: Vec<Contestant> = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !columns.contains(&cell.contestant) {
                columns.push(cell.contestant);
            }
        }
        let has_targets = self.rows.iter().any(|row| row.target.is_some());
        let mut lines = vec![vec!["what".to_owned(), "unit".to_owned()]];
        lines[0].extend(columns.iter().map(ToString::to_string));
        lines[0].extend(has_targets.then(|| "target".to_owned()));
        for row in &self.rows {
            let mut line = vec![row.what.clone(), row.unit.to_owned()];
            line.extend(columns.iter().map(|contestant| cell_text(row, *contestant)));
            line.extend(has_targets.then(|| row.target_text()));
            lines.push(line);
        }
        writeln!(f, "### {}\n", self.title)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            for (text, width) in line.iter().zip(&widths) {
                write!(f, "| {text:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// `56.2 (55.1-60.3) 5.2x`: the median, the spread, and how many times as good ours is.
fn cell_text(row: &Row, contestant: Contestant) -> String {
    let Some(cell) = row.cell(contestant) else { return String::new() };
    let Some(median) = cell.median() else { return cell.note.clone().unwrap_or_default() };
    let mut text = Figure(median).to_string();
    let (low, high) = cell.spread();
    if low < high {
        text += &format!(" ({}-{})", Figure(low), Figure(high));
    }
    if contestant != Contestant::Moon
        && let Some(advantage) = row.advantage(median)
    {
        text += &format!(" {}x", Figure(advantage));
    }
    if cell.note.is_some() {
        text += " !"; // some rounds gave nothing
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, target: Target, values: &[(Contestant, &[f64])]) -> Row {
        let mut row = Row::new("what", "ns", better, Some(target));
        for (contestant, runs) in values {
            runs.iter().for_each(|run| row.add(*contestant, Ok(*run)));
        }
        row
    }

    #[test]
    fn a_target_is_judged_by_the_median_and_in_the_right_direction() {
        use Contestant::{Epoll, May, Moon, MoonStd};
        let slow = [(Moon, &[9.0, 11.0, 100.0][..]), (May, &[50.0])];
        assert_eq!(row(Better::Lower, Target::AtMost(10.0), &slow).met(), Some(false));
        assert_eq!(row(Better::Lower, Target::AtMost(11.0), &slow).met(), Some(true));
        assert_eq!(row(Better::Lower, Target::Ahead, &slow).met(), Some(true));
        assert_eq!(row(Better::Higher, Target::Ahead, &slow).met(), Some(false));
        let near = [(Moon, &[97.0][..]), (Epoll, &[100.0]), (MoonStd, &[90.0]), (May, &[96.0])];
        assert_eq!(row(Better::Higher, Target::Share(Epoll, 0.97), &near).met(), Some(true));
        assert_eq!(row(Better::Higher, Target::Share(Epoll, 0.98), &near).met(), Some(false));
        assert_eq!(row(Better::Higher, Target::OfNative(0.95), &near).met(), Some(false));
    }

    #[test]
    fn a_cell_shows_median_spread_and_ratio() {
        let row = row(
            Better::Lower,
            Target::Ahead,
            &[(Contestant::Moon, &[10.0]), (Contestant::May, &[50.0, 60.0, 55.5])],
        );
        assert_eq!(cell_text(&row, Contestant::May), "55.5 (50-60) 5.55x");
        assert_eq!(cell_text(&row, Contestant::Moon), "10");
    }

    #[test]
    fn a_row_that_we_did_not_answer_is_known_and_next_to_nothing_has_no_ratio() {
        let mut row = row(
            Better::Lower,
            Target::AtMost(0.01),
            &[(Contestant::Moon, &[0.001]), (Contestant::May, &[1.0])],
        );
        assert!(!row.lacks_ours());
        assert_eq!(cell_text(&row, Contestant::May), "1");
        row.add(Contestant::Moon, Err("fails".to_owned()));
        assert!(row.lacks_ours());
    }

    #[test]
    fn figures_have_three_digits_and_thousands() {
        for (value, text) in
            [(1_234_567.8, "1,234,568"), (123.4, "123"), (12.34, "12.3"), (0.5, "0.50"), (0.0, "0")]
        {
            assert_eq!(Figure(value).to_string(), text);
        }
    }
}
