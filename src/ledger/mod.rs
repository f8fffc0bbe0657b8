//! Stand-in until the ledger is there: the signatures that the store needs.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    Note(String),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Note(text) => write!(f, "note {text}"),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub notes: Vec<(u64, u64, String)>,
}

impl Ledger {
    pub fn apply(&mut self, index: u64, term: u64, command: &Command) {
        match command {
            Command::Note(text) => self.notes.push((index, term, text.clone())),
        }
    }
}
