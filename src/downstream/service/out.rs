//! Where answers go: piece by piece, waiting for whoever reads them. Tables are aligned for people and have names for
//! programs.

use std::fmt::Display;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::control::{Fields, Piece};
use crate::state::Plan;

/// No column is made wider than this for the sake of another row.
const WIDEST: usize = 48;

/// The way to whoever asked.
pub(super) struct Out {
    pieces: mpsc::Sender<Piece>,
    /// Whether it is a client, which can be told stored lines again as they were.
    is_client: bool,
    said: bool,
}

impl Out {
    pub(super) fn new(pieces: mpsc::Sender<Piece>, is_client: bool) -> Self {
        Self {
            pieces,
            is_client,
            said: false,
        }
    }

    /// Says a line. When nobody listens any more nothing is said.
    pub(super) async fn say(&mut self, line: impl Display) {
        self.put(Piece::Line(line.to_string())).await;
    }

    pub(super) async fn say_all(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.put(Piece::Line(line)).await;
        }
    }

    async fn put(&mut self, piece: Piece) {
        self.said = true;
        // Whoever asked and is gone needs no answer.
        _ = self.pieces.send(piece).await;
    }

    /// One row by itself.
    pub(super) async fn row(&mut self, text: String, fields: Fields) {
        self.put(Piece::Row(text, fields)).await;
    }

    pub(super) async fn table(&mut self, table: Table) {
        for (text, fields) in table.into_rows() {
            self.put(Piece::Row(text, fields)).await;
        }
    }

    /// Stored lines. False: it is no client.
    pub(super) async fn replay(&mut self, plan: Plan) -> bool {
        if self.is_client {
            self.put(Piece::Replay(plan)).await;
        }
        self.is_client
    }

    /// Nothing is to be said, not even that it is done.
    pub(super) fn forget(&mut self) {
        self.said = true;
    }

    /// Whether nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        !self.said
    }

    /// Whether nobody listens any more.
    pub(super) fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }
}

/// Rows with columns.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<(Vec<String>, Fields)>,
}

impl Table {
    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = String>, fields: Fields) {
        self.rows.push((cells.into_iter().collect(), fields));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Each row as a line, its columns below those of the others.
    fn into_rows(self) -> impl Iterator<Item = (String, Fields)> {
        let columns = self.rows.iter().map(|(cells, _)| cells.len()).max();
        let width = |n: usize| {
            let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(n));
            let widths = cells.map(|cell| cell.chars().count());
            widths.filter(|width| *width <= WIDEST).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.unwrap_or(0)).map(width).collect();
        self.rows.into_iter().map(move |(cells, fields)| {
            let padded = cells.iter().zip(&widths);
            let padded: Vec<String> = padded.map(|(c, width)| format!("{c:width$}")).collect();
            (padded.join(" ").trim_end().to_owned(), fields)
        })
    }
}

/// The values of a row.
pub(super) fn fields<const N: usize>(values: [(&str, Value); N]) -> Fields {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::default();
        for cells in [["a:", "one", ""], ["longer:", "three", "x"]] {
            table.add(cells.map(str::to_owned), Fields::new());
        }
        table.add(["w".repeat(60), "y".to_owned()], Fields::new());
        let lines: Vec<String> = table.into_rows().map(|(line, _)| line).collect();
        assert_eq!(lines[0], "a:      one");
        assert_eq!(lines[1], "longer: three x");
        assert_eq!(lines[2], format!("{} y", "w".repeat(60)));
    }
}
